"""The user's cache folder, where what takes long to make or to fetch is kept."""

import os
from pathlib import Path

VARIABLE = "EVM_DEPLOY_CACHE"
NAME = "evm-deploy"


def find_cache_folder() -> Path:
    """The folder that EVM_DEPLOY_CACHE names, or ours where this system keeps caches. It need not exist yet."""
    import platformdirs

    given = os.environ.get(VARIABLE)
    nowhere = Path(os.devnull) / NAME  # nothing is found there, and nothing can be kept
    try:
        if given:
            return Path(given).expanduser()
        folder = platformdirs.user_cache_path(NAME, appauthor=False, opinion=False)
    except RuntimeError:  # a user without a home, as in containers
        return nowhere
    return folder if folder.is_absolute() else nowhere  # older releases of platformdirs leave `~` as it is
