"""Imports libraries that only some commands need, when they are used; Apple's without their warnings."""

import functools
import importlib
import logging
import warnings
from types import ModuleType

from evm_deploy.errors import MissingToolError, first_line


def import_library(module: str, package: str | None = None) -> ModuleType:
    """`module`, which the package of that name, or `package`, installs.

    Raises MissingToolError where it is not installed, or cannot be imported.
    """
    package = package or module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except Exception as error:  # a library built for another system may raise anything
        raise _make_missing_error(package, error) from error


@functools.cache
def coremltools() -> ModuleType:
    """Imports coremltools silently. Raises MissingToolError if it is not installed, or cannot be imported."""
    logger = logging.getLogger("coremltools")
    level = logger.level
    try:
        logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            imported = importlib.import_module("coremltools")
        imported.convert  # noqa: B018  # an empty folder, which an uninstall may leave, can be imported too
        return imported
    except Exception as error:
        raise _make_missing_error("coremltools", error) from error
    finally:
        logger.setLevel(level)


@functools.cache
def coreai() -> ModuleType:
    """Imports `coreai.authoring`, silently. Raises MissingToolError: coreai-core is missing, or cannot be imported."""
    return import_library("coreai.authoring.asset", "coreai-core")


@functools.cache
def coreai_torch() -> ModuleType:
    """Imports coreai-torch, after `coreai`, which has to be first. Raises MissingToolError as `coreai` does."""
    coreai()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return import_library("coreai_torch", "coreai-torch")


def _make_missing_error(package: str, error: Exception) -> MissingToolError:
    again = "" if isinstance(error, ModuleNotFoundError) else "--force-reinstall "
    return MissingToolError(f"{package} cannot be imported ({first_line(error)}).", f"pip install {again}{package}")
