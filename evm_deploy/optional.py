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


@functools.cache
def distributed() -> ModuleType:
    """Dask's scheduler and workers. Raises MissingToolError where they are not installed, or cannot be imported."""
    try:
        return importlib.import_module("distributed")
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise MissingToolError(f"Dask cannot be imported ({reason}).", "pip install distributed") from error


@functools.cache
def matplotlib() -> ModuleType:
    """Its `figure`, which draws to files without a window. Raises MissingToolError where it cannot be imported."""
    try:
        return importlib.import_module("matplotlib.figure")
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        fix = "pip install matplotlib"
        fix = fix if isinstance(error, ModuleNotFoundError) else fix.replace("install", "install --force-reinstall")
        raise MissingToolError(f"matplotlib cannot be imported ({reason}).", fix) from error
