"""coremltools, imported on use and quietly: it remarks on every version of PyTorch and every platform but its own."""

import functools
import importlib
import logging
import warnings
from types import ModuleType

from evm_deploy.errors import MissingToolError


@functools.cache
def coremltools() -> ModuleType:
    """The package. Raises MissingToolError where it is not installed, or cannot be imported."""
    logger = logging.getLogger("coremltools")
    level = logger.level
    try:
        logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("coremltools")
    except ImportError as error:
        raise MissingToolError(f"coremltools cannot be imported ({error}).", "pip install coremltools.") from error
    finally:
        logger.setLevel(level)
