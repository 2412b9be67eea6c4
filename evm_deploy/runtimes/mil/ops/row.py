"""The rows of the table of operations, and the conversion of a program's parameters for typed functions."""

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
from evm_deploy.runtimes.mil.problems import make_package_error, take_first_line

Ints = tuple[int, ...]
Bools = tuple[bool, ...]
Tensors = tuple[Tensor, ...]
Labels = tuple[str, ...] | tuple[int, ...]
Scalar = typing.NewType("Scalar", Tensor)  # a tensor with one value

Bound = Tensor | str | Labels | Tensors  # the value of a parameter in a program
Function = Callable[..., Tensor | tuple[Tensor, ...]]


def _take_tensor(value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError("it is not one tensor")
    return value


def _take_tensors(value: Any) -> Tensors:
    return tuple(map(_take_tensor, value if isinstance(value, tuple) else (value,)))


def _take_one(value: Any) -> Scalar:
    tensor = _take_tensor(value)
    if tensor.numel() != 1:
        raise TypeError(f"it has shape {tuple(tensor.shape)} and is not a single value")
    return Scalar(tensor.reshape(()))


def _take_scalar(value: Any, kind: type) -> Any:
    tensor = _take_tensor(value)
    if tensor.numel() != 1 or tensor.is_floating_point() != (kind is float):
        raise TypeError(f"it is {tensor.dtype} of shape {tuple(tensor.shape)}, not one {kind.__name__}")
    return kind(tensor.item())


def _take_list(value: Any, kind: type) -> tuple[Any, ...]:
    tensor = _take_tensor(value)
    if tensor.ndim > 1 or tensor.is_floating_point():
        raise TypeError(f"it is {tensor.dtype} of shape {tuple(tensor.shape)}, not a list of {kind.__name__}")
    return tuple(map(kind, tensor.reshape(-1).tolist()))


def _take_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("it is not a string")
    return value


def _take_labels(value: Any) -> Labels:
    if not isinstance(value, tuple) or any(isinstance(item, Tensor) for item in value):
        raise TypeError("it is not a list of labels")
    return value


CONVERT: dict[Any, Callable[[Any], Any]] = {
    Tensor: _take_tensor,
    Tensors: _take_tensors,
    Ints: lambda value: _take_list(value, int),
    Bools: lambda value: _take_list(value, bool),
    Labels: _take_labels,
    Scalar: _take_one,
    int: lambda value: _take_scalar(value, int),
    float: lambda value: _take_scalar(value, float),
    bool: lambda value: _take_scalar(value, bool),
    str: _take_text,
}


@dataclass(frozen=True)
class OperationRow:
    """One operation of the table.

    wide: floats are computed in float32 and small integers in int32, and results of that type are converted back to
    the type of the inputs. Otherwise, the function gets every tensor as it is stored, and chooses the types itself.
    """

    function: Function
    wide: bool

    @functools.cached_property
    def annotations(self) -> Mapping[str, Any]:
        """The annotation of each parameter, without "or None"."""
        return {
            entry.name: _strip_optional(entry.annotation)
            for entry in inspect.signature(self.function).parameters.values()
        }

    @functools.cached_property
    def needed(self) -> frozenset[str]:
        """The parameters without a default."""
        parameters = inspect.signature(self.function).parameters.values()
        return frozenset(entry.name for entry in parameters if entry.default is entry.empty)

    def check_names(self, given: frozenset[str]) -> None:
        """Raises BundleError: a parameter is unknown, or a required one is missing."""
        if unknown := sorted(given - set(self.annotations)):
            raise make_package_error(f"its parameter {unknown[0]!r} is not supported")
        if missing := sorted(self.needed - given):
            raise make_package_error(f"its parameter {missing[0]!r} is missing")

    def convert(self, name: str, values: tuple[Bound, ...]) -> Any:
        """Converts the values of the parameter `name` to its annotated type. Raises BundleError: they do not fit."""
        annotation = self.annotations[name]
        try:
            return CONVERT[annotation](values[0] if len(values) == 1 else values)
        except (TypeError, ValueError) as error:
            raise make_package_error(f"its parameter {name!r} does not fit: {take_first_line(error)}") from error

    def is_data(self, name: str) -> bool:
        """Whether the parameter is a tensor whose values do not affect shapes."""
        return self.annotations[name] in (Tensor, Tensors)

    def call(self, arguments: Mapping[str, Any]) -> tuple[Tensor, ...]:
        """Computes the results from converted arguments. Raises BundleError: PyTorch refuses them."""
        try:
            if not self.wide:
                result = self.function(**arguments)
                return result if isinstance(result, tuple) else (result,)
            narrow = _find_common_dtype(arguments)
            result = self.function(**{name: widen(value) for name, value in arguments.items()})
            results = result if isinstance(result, tuple) else (result,)
            wide = WIDE.get(narrow, narrow)
            return tuple(item.to(narrow) if item.dtype == wide else item for item in results)
        except BundleError:
            raise
        except Exception as error:  # PyTorch raises many types of errors for invalid parameters
            raise make_package_error(take_first_line(error)) from error


def widen(value: Any) -> Any:
    """Converts a tensor, or a tuple of tensors, to the type for computing; other values stay unchanged."""
    if isinstance(value, Tensor):
        return value.to(WIDE.get(value.dtype, value.dtype))
    return tuple(map(widen, value)) if isinstance(value, tuple) else value


def _find_common_dtype(arguments: Mapping[str, Any]) -> torch.dtype:
    dtypes = []
    for value in arguments.values():
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, Tensor):
                dtypes.append(item.dtype)
    if len(set(dtypes)) != 1:
        raise make_package_error(f"its inputs mix {' and '.join(sorted({str(dtype) for dtype in dtypes}))}")
    return dtypes[0]


def _strip_optional(annotation: Any) -> Any:
    """`X` for `X | None`."""
    if annotation in CONVERT or typing.get_origin(annotation) not in (types.UnionType, typing.Union):
        return annotation
    (present,) = (part for part in typing.get_args(annotation) if part is not type(None))
    return present
