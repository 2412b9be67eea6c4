"""The error tree: every failure a user can meet names its cause and its fix, and carries the exit code."""

import difflib
from collections.abc import Collection


class EvmDeployError(Exception):
    """Root of the tree. `cause` is what happened, `fix` is what to do about it; both are one sentence."""

    exit_code = 2

    def __init__(self, cause: str, fix: str) -> None:
        super().__init__(f"{cause} Fix: {fix}")
        self.cause = cause
        self.fix = fix


class InputError(EvmDeployError):
    """What the caller passed cannot be used."""


class OptionError(InputError):
    """An option has a value that the command or the target does not offer."""


class CheckpointError(InputError):
    """A checkpoint cannot be read, or does not hold one network of a known family."""


class ImageError(InputError):
    """An image cannot be decoded, or is larger than we decode."""


class BundleError(InputError):
    """A bundle is missing, damaged, or not one this version reads."""


class OutputError(EvmDeployError):
    """The result cannot be written where it was asked for."""


class MissingToolError(EvmDeployError):
    """A library or a tool that the command needs is not installed."""


class ClusterError(EvmDeployError):
    """A cluster cannot be reached, or lost the work that it was given."""


class DeviceError(EvmDeployError):
    """A device cannot be reached, was lost, or answers what cannot be read."""


class CheckFailed(EvmDeployError):
    """The artifact was made and read, and it is not right (parity, accuracy, precision)."""

    exit_code = 1


def check_choice(what: str, value: str, offered: Collection[str]) -> None:
    """Raises OptionError, with the nearest name, unless `value` is one of `offered`."""
    if value not in offered:
        near = difflib.get_close_matches(str(value).lower(), offered, 1, cutoff=0.5)
        fix = f"did you mean {near[0]!r}?" if near else f"choose one of: {', '.join(offered)}."
        raise OptionError(f"there is no {what} {value!r}.", fix)


def first_line(error: BaseException) -> str:
    """What a library's exception says, without the pages that some add; its type where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(". ")
