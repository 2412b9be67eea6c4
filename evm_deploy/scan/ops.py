"""The two operators as torch operators, so that `torch.export` sees each as one node.

Float32 on a CPU runs the native kernel where the library is built, float32 and float16 on a GPU the CUDA kernel where
it can be compiled; everything else, and every gradient, runs the chunked form.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from evm_deploy.cuda import launch as cuda
from evm_deploy.scan import chunked, native


@torch.library.custom_op("evm::selective_scan", mutates_args=())
def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> Tensor:
    """As `reference.selective_scan`; the recurrence is float32, y has the dtype of u."""
    run = _form(u, delta, A, B, C, D, delta_bias).selective_scan
    y: Tensor = run(u, delta, A, B, C, D, delta_bias, delta_softplus)
    return y


@torch.library.custom_op("evm::efficient_scan_2d", mutates_args=())
def efficient_scan_2d(
    x: Tensor, x_proj: Tensor, dt_proj: Tensor, dt_bias: Tensor, A: Tensor, D: Tensor, step: int = 2
) -> Tensor:
    """As `reference.efficient_scan_2d`; the recurrence is float32, y has the dtype of x."""
    run = _form(x, x_proj, dt_proj, dt_bias, A, D).efficient_scan_2d
    y: Tensor = run(x, x_proj, dt_proj, dt_bias, A, D, step)
    return y.contiguous()


def find_overload(name: str) -> Any:
    """The overload of one of these operators that a traced program calls."""
    return getattr(torch.ops.evm, name).default


def _form(*tensors: Tensor | None) -> ModuleType:
    """The kernels for these tensors where there are any, else the chunked form."""
    return native if _native(*tensors) else cuda if cuda.takes(*tensors) else chunked


def _native(*tensors: Tensor | None) -> bool:
    given = [t for t in tensors if t is not None]
    return all(t.device.type == "cpu" and t.dtype == torch.float32 for t in given) and native.available()


@selective_scan.register_fake
def _(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> Tensor:
    return u.new_empty(u.shape)


@efficient_scan_2d.register_fake
def _(x: Tensor, x_proj: Tensor, dt_proj: Tensor, dt_bias: Tensor, A: Tensor, D: Tensor, step: int = 2) -> Tensor:
    return x.new_empty(x.shape)


def _save(ctx: Any, inputs: tuple[object, ...], output: Tensor) -> None:
    ctx.save_for_backward(*[t for t in inputs if isinstance(t, Tensor)])
    ctx.inputs = [None if isinstance(t, Tensor) else (t,) for t in inputs]


def _backward_through(form: Callable[..., Tensor]) -> Callable[..., tuple[Tensor | None, ...]]:
    """The gradient of `form`, recomputed: what is saved is the inputs, not the (B, K, L, N, D) states."""

    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved = iter(ctx.saved_tensors)
        leaves = [next(saved).detach() if held is None else held[0] for held in ctx.inputs]
        wanted = [i for i, needs in enumerate(ctx.needs_input_grad) if needs]
        for i in wanted:
            leaves[i].requires_grad_(True)
        with torch.enable_grad():
            y = form(*leaves)
        gradients = torch.autograd.grad(y, [leaves[i] for i in wanted], grad, materialize_grads=True)  # one token: no A
        found = dict(zip(wanted, gradients, strict=True))
        return tuple(found.get(i) for i in range(len(leaves)))

    return backward


selective_scan.register_autograd(_backward_through(chunked.selective_scan), setup_context=_save)
efficient_scan_2d.register_autograd(_backward_through(chunked.efficient_scan_2d), setup_context=_save)
