"""What is wrong with a package that cannot be read or run, said in one line."""

from evm_deploy.errors import BundleError, first_line

LONGEST_NAME = 80


def damaged(cause: str) -> BundleError:
    """The error to raise for a package that no exporter of ours wrote; `cause` is a clause without its full stop."""
    return BundleError(f"{cause}.", "export the model again.")


def shown(name: str) -> str:
    """A name out of the file, quoted: it may be of any length and hold any character."""
    return repr(name if len(name) <= LONGEST_NAME else name[:LONGEST_NAME] + "...")


def line(error: Exception) -> str:
    """The first line of a library's error."""
    return first_line(error)[:300]
