"""The operators for TensorRT from 10.9 on, whose engines hold our compiled kernels: no Python where they run."""

import contextlib
import functools
import importlib
from collections.abc import Iterator, Sequence
from typing import Any

from evm_deploy.cuda import driver
from evm_deploy.cuda.compile import compile_kernel
from evm_deploy.exporters.tensorrt.plugins.operators import EFFICIENT_SCAN_2D, SELECTIVE_SCAN, SIZES, Operator
from evm_deploy.operators import DOMAIN

NOMINAL = 28  # what a side that is open is planned for: any plan is right for every size, and this one fast for most


@contextlib.contextmanager
def registered(trt: Any) -> Iterator[None]:
    """Registers the operators. They stay: this registry of TensorRT gives nothing back."""
    _register(importlib.import_module(f"{trt.__name__}.plugin"), trt)
    yield


@functools.cache
def _register(trtp: Any, trt: Any) -> None:
    """A description, what the builder may choose, and the compiled kernel of each operator.

    TensorRT reads the names and types of the arguments: a description has a parameter for each input and attribute.
    """
    desc = trtp.TensorDesc
    compiled = tuple[str | bytes, str | bytes, trtp.KernelLaunchParams, trtp.SymExprs]

    def selective_scan(u, delta, A, B, C, D, delta_bias, delta_softplus):  # type: ignore[no-untyped-def]
        return u.like()

    def efficient_scan_2d(x, x_proj, dt_proj, dt_bias, A, D, step):  # type: ignore[no-untyped-def]
        return x.like()

    def compile_selective_scan(u, delta, A, B, C, D, delta_bias, delta_softplus, outputs, tactic):  # type: ignore[no-untyped-def]
        return kernel(trt, trtp, SELECTIVE_SCAN, (u, delta, A, B, C, D, delta_bias), delta_softplus)

    def compile_efficient_scan_2d(x, x_proj, dt_proj, dt_bias, A, D, step, outputs, tactic):  # type: ignore[no-untyped-def]
        return kernel(trt, trtp, EFFICIENT_SCAN_2D, (x, x_proj, dt_proj, dt_bias, A, D), step)

    for operator, describe, implement in (
        (SELECTIVE_SCAN, selective_scan, compile_selective_scan),
        (EFFICIENT_SCAN_2D, efficient_scan_2d, compile_efficient_scan_2d),
    ):
        plugin = f"{DOMAIN}::{operator.name}"
        types = dict.fromkeys(operator.inputs, desc) | {operator.attribute: int}
        describe.__annotations__ = types | {"return": desc}
        implement.__annotations__ = {"return": compiled}
        trtp.register(plugin)(describe)
        trtp.aot_impl(plugin)(implement)


def kernel(
    trt: Any, trtp: Any, operator: Operator, inputs: Sequence[Any], attribute: int
) -> tuple[bytes, bytes, Any, Any]:
    """The name and the PTX of the kernel for these inputs, its launch, and the sizes among its arguments.

    The grid is proportional to the batch, which may be open; the sizes are too.
    """
    shapes = [tuple(_size(side, axis) for axis, side in enumerate(tensor.shape_expr)) for tensor in inputs]
    gpu = driver.gpu()
    dtype = "float16" if inputs[0].dtype == trt.float16 else "float32"
    planned = operator.plan(shapes, int(attribute), dtype, gpu.sm_count)
    code = compile_kernel(planned.defines, gpu.architecture, format="ptx")
    params = trtp.KernelLaunchParams()
    params.grid_x = inputs[0].shape_expr[0] * (planned.grid[0] // shapes[0][0])
    params.block_x = planned.block[0]
    params.shared_mem = planned.shared_bytes
    sizes = trtp.SymIntExprs.from_tuple([trtp.SymInt32(inputs[0].shape_expr[axis]) for axis in SIZES])
    return planned.entry.encode(), code, params, sizes


def _size(side: Any, axis: int) -> int:
    """A length that is known, or one to plan for: a batch of 1, and a size that is usual."""
    if side.is_constant:
        return int(side.constant_value())
    return 1 if axis == 0 else NOMINAL
