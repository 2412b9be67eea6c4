"""What a row of the table of operations holds, and how typed functions get their parameters out of a program."""

import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from evm_deploy.errors import BundleError
from evm_deploy.runtimes.mil.dtypes import WIDE
from evm_deploy.runtimes.mil.problems import damaged, line

Ints = tuple[int, ...]
Bools = tuple[bool, ...]
Tensors = tuple[Tensor, ...]
Labels = tuple[str, ...] | tuple[int, ...]
Scalar = typing.NewType("Scalar", Tensor)  # one value, in its type

Bound = Tensor | str | Labels | Tensors  # what a program binds to a parameter
Function = Callable[..., Tensor | tuple[Tensor, ...]]


def _tensor(value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError("it is not one tensor")
    return value


def _tensors(value: Any) -> Tensors:
    return tuple(map(_tensor, value if isinstance(value, tuple) else (value,)))


def _one(value: Any) -> Scalar:
    tensor = _tensor(value)
    if tensor.numel() != 1:
        raise TypeError(f"it has shape {tuple(tensor.shape)}, and is not one value")
    return Scalar(tensor.reshape(()))


def _scalar(value: Any, kind: type) -> Any:
    tensor = _tensor(value)
    if tensor.numel() != 1 or tensor.is_floating_point() != (kind is float):
        raise TypeError(f"it is {tensor.dtype} of shape {tuple(tensor.shape)}, not one {kind.__name__}")
    return kind(tensor.item())


def _list(value: Any, kind: type) -> tuple[Any, ...]:
    tensor = _tensor(value)
    if tensor.ndim > 1 or tensor.is_floating_point():
        raise TypeError(f"it is {tensor.dtype} of shape {tuple(tensor.shape)}, not a list of {kind.__name__}")
    return tuple(map(kind, tensor.reshape(-1).tolist()))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("it is not a string")
    return value


def _labels(value: Any) -> Labels:
    if not isinstance(value, tuple) or any(isinstance(item, Tensor) for item in value):
        raise TypeError("it is not a list of labels")
    return value


CONVERT: dict[Any, Callable[[Any], Any]] = {
    Tensor: _tensor,
    Tensors: _tensors,
    Ints: lambda value: _list(value, int),
    Bools: lambda value: _list(value, bool),
    Labels: _labels,
    Scalar: _one,
    int: lambda value: _scalar(value, int),
    float: lambda value: _scalar(value, float),
    bool: lambda value: _scalar(value, bool),
    str: _text,
}


@dataclass(frozen=True)
class Row:
    """One operation of the table.

    wide: floats are computed in float32 and small integers in int32, and what has that type at the end is brought back
    to the type of the inputs. Without it the function gets every tensor as it is stored, and answers for the types.
    """

    function: Function
    wide: bool

    @functools.cached_property
    def annotations(self) -> Mapping[str, Any]:
        """Of each parameter, without "or None"."""
        return {
            entry.name: _present(entry.annotation) for entry in inspect.signature(self.function).parameters.values()
        }

    @functools.cached_property
    def needed(self) -> frozenset[str]:
        """The parameters that have no default."""
        parameters = inspect.signature(self.function).parameters.values()
        return frozenset(entry.name for entry in parameters if entry.default is entry.empty)

    def check_names(self, given: frozenset[str]) -> None:
        """Raises BundleError unless exactly the parameters are given that the function has and needs."""
        if unknown := sorted(given - set(self.annotations)):
            raise damaged(f"its parameter {unknown[0]!r} is not supported")
        if missing := sorted(self.needed - given):
            raise damaged(f"its parameter {missing[0]!r} is missing")

    def convert(self, name: str, values: tuple[Bound, ...]) -> Any:
        """What a program binds to the parameter `name`, as its annotation says. Raises BundleError: it cannot be."""
        annotation = self.annotations[name]
        try:
            return CONVERT[annotation](values[0] if len(values) == 1 else values)
        except (TypeError, ValueError) as error:
            raise damaged(f"its parameter {name!r} does not fit: {line(error)}") from error

    def is_data(self, name: str) -> bool:
        """Whether the parameter is a tensor, whose values do not decide about shapes."""
        return self.annotations[name] in (Tensor, Tensors)

    def call(self, arguments: Mapping[str, Any]) -> tuple[Tensor, ...]:
        """The results for converted arguments. Raises BundleError where PyTorch refuses them."""
        try:
            if not self.wide:
                result = self.function(**arguments)
                return result if isinstance(result, tuple) else (result,)
            narrow = _common_dtype(arguments)
            result = self.function(**{name: widen(value) for name, value in arguments.items()})
            results = result if isinstance(result, tuple) else (result,)
            wide = WIDE.get(narrow, narrow)
            return tuple(item.to(narrow) if item.dtype == wide else item for item in results)
        except BundleError:
            raise
        except Exception as error:  # what PyTorch raises for parameters that do not fit is of many kinds
            raise damaged(line(error)) from error


def widen(value: Any) -> Any:
    """A tensor, or a tuple of tensors, in the type in which it is computed with; other values as they are."""
    if isinstance(value, Tensor):
        return value.to(WIDE.get(value.dtype, value.dtype))
    return tuple(map(widen, value)) if isinstance(value, tuple) else value


def _common_dtype(arguments: Mapping[str, Any]) -> torch.dtype:
    dtypes = []
    for value in arguments.values():
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, Tensor):
                dtypes.append(item.dtype)
    if len(set(dtypes)) != 1:
        raise damaged(f"its inputs mix {' and '.join(sorted({str(dtype) for dtype in dtypes}))}")
    return dtypes[0]


def _present(annotation: Any) -> Any:
    """`X` for `X | None`."""
    if annotation in CONVERT or typing.get_origin(annotation) not in (types.UnionType, typing.Union):
        return annotation
    (present,) = (part for part in typing.get_args(annotation) if part is not type(None))
    return present
