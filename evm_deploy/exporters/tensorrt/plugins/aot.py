"""The operators for TensorRT from 10.9 on, whose engines hold our compiled kernels: no Python where they run."""

import contextlib
import functools
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from evm_deploy.cuda import driver
from evm_deploy.cuda.compile import compile_kernel
from evm_deploy.exporters.tensorrt.plugins.operators import PLUGINS, TYPES, read_sides
from evm_deploy.operators import DOMAIN, Operator

NOMINAL = 28  # the planned length of an open side: every plan is correct for every size, and this one is fast for most


@contextlib.contextmanager
def register_operators(trt: Any) -> Iterator[None]:
    """Registers the operators. They stay registered, because this registry of TensorRT removes nothing."""
    _register_once(importlib.import_module(f"{trt.__name__}.plugin"), trt)
    yield


@functools.cache
def _register_once(trtp: Any, trt: Any) -> None:
    """Registers the description and the compiled kernel of each operator.

    TensorRT reads the names and types of the arguments: a description has a parameter for each input and attribute.
    """
    for operator in PLUGINS:
        plugin = f"{DOMAIN}::{operator.name}"
        trtp.register(plugin)(_make_description(trt, trtp, operator))
        trtp.aot_impl(plugin)(_make_implementation(trt, trtp, operator))


def _make_description(trt: Any, trtp: Any, operator: Operator) -> Callable[..., Any]:
    """The shape and the type of y."""
    assert operator.gpu is not None
    sides = operator.gpu.result
    result = TYPES[operator.result] if operator.result else None

    def describe(*given: Any, **attributes: Any) -> Any:
        shape = read_sides(sides, operator.inputs, lambda place, axis: given[place].shape_expr[axis])
        return trtp.from_shape_expr(tuple(shape), getattr(trt, result) if result else given[0].dtype)

    desc = trtp.TensorDesc
    types = dict.fromkeys(operator.inputs, desc) | dict(operator.attributes)
    return _set_signature(describe, types, returns=desc)


def _make_implementation(trt: Any, trtp: Any, operator: Operator) -> Callable[..., Any]:
    """TensorRT gives the inputs, the attributes, the outputs and the tactic, by their places."""
    count = len(operator.inputs)

    def implement(*given: Any) -> tuple[bytes, bytes, Any, Any]:
        attributes = dict(zip(operator.attributes, given[count:], strict=False))
        return describe_kernel(trt, trtp, operator, given[:count], attributes)

    names = [*operator.inputs, *operator.attributes, "outputs", "tactic"]
    compiled = tuple[str | bytes, str | bytes, trtp.KernelLaunchParams, trtp.SymExprs]
    return _set_signature(implement, dict.fromkeys(names, inspect.Parameter.empty), returns=compiled)


def _set_signature(function: Callable[..., Any], types: Mapping[str, Any], *, returns: Any) -> Callable[..., Any]:
    """Gives the function a signature with these parameters, which TensorRT inspects."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, kind, annotation=type_) for name, type_ in types.items()]
    function.__signature__ = inspect.Signature(parameters, return_annotation=returns)  # type: ignore[attr-defined]
    return function


def describe_kernel(
    trt: Any, trtp: Any, operator: Operator, inputs: Sequence[Any], attributes: Mapping[str, Any]
) -> tuple[bytes, bytes, Any, Any]:
    """The name and the PTX of the kernel for these inputs, its launch, and the sizes among its arguments.

    The grid is proportional to the batch, which may be open; the sizes are too.
    """
    kernel = operator.gpu
    assert kernel is not None
    shapes = [tuple(_choose_size(side, axis) for axis, side in enumerate(tensor.shape_expr)) for tensor in inputs]
    gpu = driver.find_gpu()
    dtype = "float16" if inputs[0].dtype == trt.float16 else "float32"
    planned = kernel.plan(shapes, dtype, gpu.sm_count, **{name: int(value) for name, value in attributes.items()})
    code = compile_kernel(planned.defines, gpu.architecture, format="ptx", source=planned.source)
    params = trtp.KernelLaunchParams()
    params.grid_x = inputs[0].shape_expr[0] * (planned.grid[0] // shapes[0][0])
    params.block_x = planned.block[0]
    params.shared_mem = planned.shared_bytes
    sides = read_sides(kernel.sizes, operator.inputs, lambda place, axis: inputs[place].shape_expr[axis])
    sizes = trtp.SymIntExprs.from_tuple(list(map(trtp.SymInt32, sides)))
    return planned.entry.encode(), code, params, sizes


def _choose_size(side: Any, axis: int) -> int:
    """A length that is known, or one to plan for: a batch of 1, and a size that is usual."""
    if side.is_constant:
        return int(side.constant_value())
    return 1 if axis == 0 else NOMINAL
