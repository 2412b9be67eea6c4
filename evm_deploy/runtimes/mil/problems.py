"""Errors about packages that cannot be read or run, in one line."""

from evm_deploy.errors import BundleError, first_line

LONGEST_NAME = 80


def make_package_error(cause: str) -> BundleError:
    """Makes the error for an invalid package; `cause` is a clause without a full stop."""
    return BundleError(f"{cause}.", "export the model again.")


def quote(name: str) -> str:
    """Quotes a name from the file, which may be long and contain any character."""
    return repr(name if len(name) <= LONGEST_NAME else name[:LONGEST_NAME] + "...")


def take_first_line(error: Exception) -> str:
    """The first line of an error of a library."""
    return first_line(error)[:300]
