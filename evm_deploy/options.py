"""What stands beside a field of an options dataclass: its help, its range, and what the command line makes of it.

A field without `option(...)` is for Python alone.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from evm_deploy.errors import OptionError

Options = TypeVar("Options")
_KEY = "option"


@dataclass(frozen=True)
class Option:
    """A field on the command line."""

    help: str
    spelling: str  # such as --image-size
    kind: type[Any]  # of what the command line reads; bool: a flag, list: may be given again
    default: Any  # what is read where it is not given; MISSING: it has to be
    parse: Callable[[Any], Any]  # from what is read to the field's value
    minimum: float | None = None
    maximum: float | None = None
    fix: str = ""  # for a value outside the range
    read_from: str = ""  # the field whose text this one is read from, which has no option of its own


def option(help: str, spelling: str = "", **others: Any) -> dict[str, Any]:
    """The metadata of a field. others: fields of `Option`, where they do not follow from the field.

    A flag that is on by default is spelled --no-..., and turns it off.
    """
    return {_KEY: {"help": help, "spelling": spelling, **others}}


def read_options(kind: type[Any]) -> dict[str, Option]:
    """The options of a dataclass, by the names of their fields, in order."""
    return {field.name: _read_option(field) for field in dataclasses.fields(kind) if _KEY in field.metadata}


def spell_option(kind: type[Any], name: str) -> str:
    """How the command line spells a field; its name, where it has no option."""
    known = read_options(kind)
    return known[name].spelling if name in known else name


def make_options(kind: type[Options], values: Mapping[str, Any]) -> Options:
    """An instance from what the command line read, by the names of the fields."""
    known = read_options(kind)
    return kind(**{name: one.parse(values[one.read_from or name]) for name, one in known.items()})


def check_ranges(options: Any) -> None:
    """Raises OptionError for a number, or one of several, that is not within the range of its field."""
    for name, one in read_options(type(options)).items():
        value = getattr(options, name)
        for each in value if isinstance(value, tuple) else (value,):
            if each is not None and not _is_within(each, one):
                raise OptionError(*_explain(each, one))


def _read_option(field: dataclasses.Field[Any]) -> Option:
    given = dict(field.metadata[_KEY])
    default = given.setdefault("default", field.default)
    kind = given.setdefault("kind", str if default is None or default is dataclasses.MISSING else type(default))
    off = kind is bool and default is True
    given["spelling"] = given["spelling"] or ("--no-" if off else "--") + field.name.replace("_", "-")
    given.setdefault("parse", _PARSERS.get(kind, _keep) if not off else _turn_off)
    if kind is list:
        given["default"] = None
    elif off:
        given["default"] = False
    return Option(**given)


def _keep(value: Any) -> Any:
    return value


def _turn_off(value: bool) -> bool:
    return not value


def _make_tuple(values: list[str] | None) -> tuple[str, ...]:
    return tuple(values or ())


_PARSERS: dict[type, Callable[[Any], Any]] = {list: _make_tuple}


def _is_within(value: object, one: Option) -> bool:
    if one.minimum is None:
        return True
    if not isinstance(value, numbers.Integral if one.kind is int else numbers.Real):
        return False
    number = float(value)
    return math.isfinite(number) and one.minimum <= number <= (math.inf if one.maximum is None else one.maximum)


def _explain(value: object, one: Option) -> tuple[str, str]:
    if one.maximum is None:
        fix = one.fix or f"give {one.minimum} or more, or leave it out."
        return f"{one.spelling} {value} is less than {one.minimum}.", fix
    fix = one.fix or f"choose {one.spelling} within it."
    return f"{one.spelling} {value} is not within {one.minimum} to {one.maximum}.", fix
