"""What is not supplied says so by its name."""

from collections.abc import Callable
from typing import Any, NoReturn

from evm_deploy.errors import InputError


def refuse(what: str) -> NoReturn:
    """Raises InputError: `what` runs on CUDA only."""
    raise InputError(
        f"{what} is not supplied without CUDA.", "call something else there, or leave it out of the model."
    )


def check_absent(function: str, **arguments: Any) -> None:
    """Raises InputError where one of these arguments, which `function` is not supplied with, is given."""
    for name, value in arguments.items():
        if value is not None and value is not False:
            refuse(f"{function} with {name}")


def make_refusal(name: str) -> Callable[..., NoReturn]:
    """A function that says that it is not supplied."""

    def refused(*_: object, **__: object) -> NoReturn:
        refuse(name)

    return refused
