"""The files of an `.mlpackage`: what its manifest names, and nothing outside its folder."""

from pathlib import Path
from typing import Any

from evm_deploy.errors import BundleError
from evm_deploy.files import check_relative, find_file, read_file
from evm_deploy.jsontext import read_object
from evm_deploy.runtimes.mil.problems import damaged, shown

MANIFEST, DATA = "Manifest.json", "Data"
MANIFEST_BYTES = 1 << 20
MODEL_BYTES = 1 << 25  # the whole of a network of 2,000 operations takes one megabyte


def model_file(package: Path) -> Path:
    """The program's file in the package, which has at most MODEL_BYTES.

    Raises BundleError: not a package, or one whose manifest leads nowhere, elsewhere or to a larger file.
    """
    if not (package / MANIFEST).is_file():
        raise BundleError(f"{package} is not an .mlpackage: it has no {MANIFEST}.", "export the model again.")
    manifest = _manifest(inside(package, MANIFEST))
    root = manifest.get("rootModelIdentifier")
    items = manifest.get("itemInfoEntries")
    item = items.get(root) if isinstance(items, dict) and isinstance(root, str) else None
    path = item.get("path") if isinstance(item, dict) else None
    if not isinstance(path, str):
        raise damaged(f"{MANIFEST} in {package} names no model")
    return inside(package, f"{DATA}/{path}", MODEL_BYTES)


def inside(folder: Path, name: str, limit: int | None = None) -> Path:
    """The regular file `name` of `folder`, reached through no link, of at most `limit` bytes. Raises BundleError where
    there is none.
    """
    try:
        check_relative(name)
    except ValueError:
        raise damaged(f"{shown(name)} leaves the package or is not a portable path") from None
    return find_file(folder, name, _damaged, limit)


def _damaged(cause: str) -> BundleError:
    return BundleError(cause, "copy the whole bundle, or export it again.")


def _manifest(path: Path) -> dict[str, Any]:
    content = read_file(path, MANIFEST_BYTES, _damaged)
    return read_object(content, str(path), BundleError, "export the model again.")
