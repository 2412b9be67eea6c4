"""Makes commands of functions: their options stand in a dataclass, and are said there once."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Collection, Iterator
from inspect import Parameter
from typing import Any, TypeVar

import typer

from evm_deploy.cli.app import app
from evm_deploy.options import Option, make_options, read_options

Function = TypeVar("Function", bound=Callable[..., None])
OWN = "options"  # the parameter of a function that takes the dataclass


def add_command(kind: type[Any], last: Collection[str] = ()) -> Callable[[Function], Function]:
    """Makes a command of a function, whose parameter `options` is of the dataclass `kind`.

    In its place the command has an option for each field. What has to be given comes first, and the fields named
    in `last`, and the parameter `json`, come last.
    """

    def add(function: Function) -> Function:
        own = inspect.signature(function, eval_str=True).parameters

        def run(**values: Any) -> None:
            function(**{name: values[name] for name in own if name != OWN}, **{OWN: make_options(kind, values)})

        parameters = list(_list_parameters(own.values(), kind))
        parameters.sort(key=lambda one: (not _is_required(one), one.name == "json", one.name in last))
        run.__name__, run.__doc__ = function.__name__, function.__doc__
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # which typer reads
        app.command()(run)
        return function

    return add


def describe_option(kind: type[Any], name: str) -> Any:
    """The option of a field, for the annotation of a parameter of another command."""
    one = read_options(kind)[name]
    return typer.Option(one.spelling, help=one.help)


def _list_parameters(own: Collection[Parameter], kind: type[Any]) -> Iterator[Parameter]:
    for parameter in own:
        if parameter.name != OWN:
            yield parameter.replace(kind=Parameter.KEYWORD_ONLY)
            continue
        for name, one in read_options(kind).items():
            if not one.read_from:
                yield _make_parameter(name, one)


def _make_parameter(name: str, one: Option) -> Parameter:
    default = ... if one.default is dataclasses.MISSING else one.default
    read: Any = list[str] if one.kind is list else one.kind
    if default is None:
        read = read | None
    told = typer.Option(default, one.spelling, help=one.help)
    return Parameter(name, Parameter.KEYWORD_ONLY, default=told, annotation=read)


def _is_required(parameter: Parameter) -> bool:
    default = parameter.default
    return default is Parameter.empty or getattr(default, "default", None) is ...
