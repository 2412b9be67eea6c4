"""The scans as torch operators, so that `torch.export` sees each as one node.

Float32 on a CPU runs the native kernel where the library is built, float32 and float16 on a GPU the CUDA kernel where
it can be compiled; everything else, and every gradient, runs the chunked form.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from evm_deploy.errors import InputError
from evm_deploy.scan import chunked, cuda, native
from evm_deploy.scan.inputs import Scan2DInputs, ScanInputs
from evm_deploy.scan.kernel_inputs import (
    INDICES,
    CausalConvInputs,
    KernelInputs,
    OrderedScanInputs,
    list_tensors,
)


@torch.library.custom_op(
    "evm::selective_scan",
    mutates_args=(),
    schema="(Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D=None, Tensor? delta_bias=None, "
    "bool delta_softplus=False) -> Tensor",
)
def selective_scan(*arguments: Any) -> Tensor:
    """y of `ScanInputs`; the recurrence is float32, y has the dtype of u."""
    return _run(ScanInputs(*arguments))


@torch.library.custom_op(
    "evm::efficient_scan_2d",
    mutates_args=(),
    schema="(Tensor x, Tensor x_proj, Tensor dt_proj, Tensor dt_bias, Tensor A, Tensor D, int step=2) -> Tensor",
)
def efficient_scan_2d(*arguments: Any) -> Tensor:
    """y of `Scan2DInputs`; the recurrence is float32, y has the dtype of x."""
    return _run(Scan2DInputs(*arguments))


@torch.library.custom_op(
    "evm::ordered_scan",
    mutates_args=(),
    schema="(Tensor x, Tensor x_proj, Tensor dt_proj, Tensor dt_bias, Tensor A, Tensor D, Tensor order, Tensor back) "
    "-> Tensor",
)
def ordered_scan(*arguments: Any) -> Tensor:
    """y of `OrderedScanInputs`; the recurrence is float32, y has the dtype of x."""
    return _run(OrderedScanInputs(*arguments))


@torch.library.custom_op(
    "evm::causal_conv",
    mutates_args=(),
    schema="(Tensor x, Tensor weight, Tensor bias, Tensor order, int taps=4) -> Tensor",
)
def causal_conv(*arguments: Any) -> Tensor:
    """y of `CausalConvInputs`, in the dtype of x."""
    return _run(CausalConvInputs(*arguments))


def _run(inputs: KernelInputs) -> Tensor:
    """By the kernels for these tensors where there are any, else by the chunked form."""
    if torch.onnx.is_in_onnx_export():  # the other exporter runs no operator
        what = "the older exporter of PyTorch, torch.onnx.export(dynamo=False), cannot write selective scans."
        raise InputError(what, "call evm_deploy.save_onnx(module, inputs, path), or evm_deploy.export.")
    if _is_native(inputs):
        return native.run(inputs).contiguous()
    run = cuda.run if cuda.takes(inputs) else chunked.run
    return run(inputs).contiguous()


def _is_native(inputs: KernelInputs) -> bool:
    given = list_tensors(inputs)
    return (
        all(t.device.type == "cpu" for t in given.values())
        and all(t.dtype == torch.float32 for name, t in given.items() if name not in INDICES)
        and native.available()
    )


def find_overload(name: str) -> Any:
    """The overload of one of these operators that a traced program calls."""
    return getattr(torch.ops.evm, name).default


def _save(ctx: Any, inputs: tuple[object, ...], output: Tensor) -> None:
    ctx.save_for_backward(*[t for t in inputs if isinstance(t, Tensor)])
    ctx.inputs = [None if isinstance(t, Tensor) else (t,) for t in inputs]


def _backward_through(inputs_type: type[KernelInputs]) -> Callable[..., tuple[Tensor | None, ...]]:
    """The gradient of the chunked form, recomputed: what is saved is the inputs, not the (B, K, L, N, D) states."""

    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved = iter(ctx.saved_tensors)
        leaves = [next(saved).detach() if held is None else held[0] for held in ctx.inputs]
        wanted = [i for i, needs in enumerate(ctx.needs_input_grad) if needs]
        for i in wanted:
            leaves[i].requires_grad_(True)
        with torch.enable_grad():
            y = chunked.run(inputs_type(*leaves))
        gradients = torch.autograd.grad(y, [leaves[i] for i in wanted], grad, materialize_grads=True)  # one token: no A
        found = dict(zip(wanted, gradients, strict=True))
        return tuple(found.get(i) for i in range(len(leaves)))

    return backward


def _make_result_of(inputs_type: type[KernelInputs]) -> Callable[..., Tensor]:
    return lambda *arguments: arguments[0].new_empty(inputs_type(*arguments).result_shape)


for operator, inputs_type in (
    (selective_scan, ScanInputs),
    (efficient_scan_2d, Scan2DInputs),
    (ordered_scan, OrderedScanInputs),
    (causal_conv, CausalConvInputs),
):
    operator.register_fake(_make_result_of(inputs_type))
    operator.register_autograd(_backward_through(inputs_type), setup_context=_save)
