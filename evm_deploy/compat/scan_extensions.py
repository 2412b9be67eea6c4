"""The compiled scans, `selective_scan_cuda` of mamba and those of VMamba and Spatial-Mamba, below everybody's autograd
functions: `fwd` runs our operator, `bwd` differentiates it.

Shapes are those of `selective_scan_fn`; B and C are (batch, G, N, L).
"""

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from evm_deploy.compat.refusals import refuse
from evm_deploy.scan.interface import scan_states, selective_scan_fn

Given = Tensor | None


def differentiate(run: Callable[..., Tensor], inputs: Sequence[Given], grad: Tensor) -> list[Given]:
    """The gradient of each of `inputs` from that of the result; None where there is no input."""
    leaves = [None if t is None else t.detach().requires_grad_() for t in inputs]
    with torch.enable_grad():
        y = run(*leaves)
    found = iter(torch.autograd.grad(y, [t for t in leaves if t is not None], grad.to(y.dtype), materialize_grads=True))
    return [None if t is None else next(found) for t in leaves]


def run_mamba(*arguments: Any) -> list[Tensor]:
    """(u, delta, A, B, C, D, z, delta_bias, delta_softplus) -> y, states, and with z the gated y."""
    if isinstance(arguments[7], bool):  # of forks that call theirs by this name
        return run_vmamba(*arguments)
    u, delta, A, B, C, D, z, bias, softplus = arguments[:9]
    y = _scan(u, delta, A, B, C, D, bias, softplus)
    states = _make_states(u, delta, A, B, bias, softplus)
    return [y, states] if z is None else [y, states, y * F.silu(z)]


def differentiate_mamba(*arguments: Any) -> list[Given]:
    """(u, delta, A, B, C, D, z, delta_bias, dy, states, y, dz, delta_softplus, again) -> the gradients of the tensors,
    with z also its own, which is written to dz as well, and with `again` the gated y."""
    if isinstance(arguments[9], bool):
        return differentiate_vmamba(*arguments)
    u, delta, A, B, C, D, z, bias, grad, _, _, into, softplus, again = arguments

    def run(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Given, bias: Given, z: Given) -> Tensor:
        y = _scan(u, delta, A, B, C, D, bias, softplus)
        return y if z is None else y * F.silu(z)

    inputs = (u, delta, A, B, C, D, bias, z)
    *gradients, of_z = differentiate(run, inputs, grad)
    if z is None:
        return gradients
    if into is not None:
        of_z = into.copy_(of_z)
    return [*gradients, of_z, run(*inputs)] if again else [*gradients, of_z]


def run_vmamba(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Given,
    bias: Given,
    softplus: bool,
    nrows: int = 1,
    out_float: bool = False,
) -> list[Tensor]:
    """y, and what its gradient has no need of here; out_float: y is float32 whatever u is."""
    y = _scan(u, delta, A, B, C, D, bias, softplus, out_float)
    return [y, u.new_empty(0)]


def differentiate_vmamba(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Given,
    bias: Given,
    grad: Tensor,
    states: Tensor,
    softplus: bool,
    nrows: int = 1,
) -> list[Given]:
    """The gradients of the seven tensors."""
    scan = functools.partial(_scan, softplus=softplus, out_float=True)
    return differentiate(scan, (u, delta, A, B, C, D, bias), grad)


def run_states(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, D: Given, bias: Given, softplus: bool, *_: Any
) -> list[Tensor]:
    """Spatial-Mamba's: every state, (batch, dim, N, L), without C or D."""
    states = scan_states(u, delta, A, B, bias, softplus)
    return [states, torch.stack([states[..., -1], states[..., -1]], -1).flatten(2).unsqueeze(2)]


def differentiate_states(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    D: Given,
    bias: Given,
    grad: Tensor,
    states: Tensor,
    softplus: bool,
    *_: Any,
) -> list[Given]:
    """The gradients of u, delta, A, B, D and the bias."""
    inputs = (u, delta, A, B, bias)
    *gradients, of_bias = differentiate(functools.partial(scan_states, delta_softplus=softplus), inputs, grad)
    return [*gradients, None if D is None else torch.zeros_like(D), of_bias]


def _scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Given,
    bias: Given,
    softplus: bool,
    out_float: bool = False,
) -> Tensor:
    if A.is_complex():
        refuse("a selective scan with complex A")
    y = selective_scan_fn(u, delta, A, B, C, D, None, bias, softplus, oflex=out_float)
    assert isinstance(y, Tensor)
    return y


def _make_states(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, bias: Given, softplus: bool) -> Tensor:
    """(batch, dim, 1, 2 N) with the last state at every second place, as mamba's function reads it.

    That takes another scan, so it is there only where the caller has been asked for it; else it is not a number.
    """
    caller = sys._getframe(2).f_locals
    if caller.get("return_last_state"):
        last = scan_states(u, delta, A, B, bias, softplus)[..., -1]
        return torch.stack([last, last], -1).flatten(2).unsqueeze(2)
    return A.new_full((1, 1, 1, 1), float("nan")).expand(u.shape[0], u.shape[1], 1, 2 * A.shape[1])
