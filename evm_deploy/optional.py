"""Libraries that single targets need, imported on use. coremltools remarks on every system and PyTorch but its own."""

import functools
import importlib
import logging
import warnings
from types import ModuleType

from evm_deploy.errors import MissingToolError

_REINSTALL = "pip install --force-reinstall coremltools"


@functools.cache
def coremltools() -> ModuleType:
    """The package. Raises MissingToolError where it is not installed, or cannot be imported."""
    logger = logging.getLogger("coremltools")
    level = logger.level
    try:
        logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            library = importlib.import_module("coremltools")
        library.convert  # noqa: B018  # an empty folder, which an uninstall may leave, can be imported too
        return library
    except Exception as error:  # a library built for another system raises what it likes
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        fix = "pip install coremltools" if isinstance(error, ModuleNotFoundError) else _REINSTALL
        raise MissingToolError(f"coremltools cannot be imported ({reason}).", fix) from error
    finally:
        logger.setLevel(level)
