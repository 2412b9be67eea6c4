"""`causal_conv1d`: the depthwise convolution over the tokens before, x (batch, dim, L), weight (dim, width)."""

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from evm_deploy.compat.refusals import check_absent
from evm_deploy.compat.scan_extensions import Given, differentiate


def causal_conv1d_fn(
    x: Tensor,
    weight: Tensor,
    bias: Given = None,
    seq_idx: Given = None,
    initial_states: Given = None,
    return_final_states: bool = False,
    final_states_out: Given = None,
    activation: str | None = None,
) -> Any:
    """The result, as x; with `return_final_states` also the last width - 1 tokens, (batch, dim, width - 1)."""
    check_absent("causal_conv1d_fn", seq_idx=seq_idx)
    y = _convolve(x, weight, bias, initial_states, activation in ("silu", "swish"))
    if not return_final_states:
        return y
    last = _extend(x, weight, initial_states)[..., 1 - weight.shape[-1] :]
    return y, last if final_states_out is None else final_states_out.copy_(last)


def causal_conv1d_update(
    x: Tensor,
    conv_state: Tensor,
    weight: Tensor,
    bias: Given = None,
    activation: str | bool | None = None,
    cache_seqlens: Given = None,
    conv_state_indices: Given = None,
) -> Tensor:
    """The same of the next tokens, x (batch, dim) or (batch, dim, L); the last ones, `conv_state`, are changed."""
    check_absent("causal_conv1d_update", cache_seqlens=cache_seqlens, conv_state_indices=conv_state_indices)
    tokens = x if x.dim() == 3 else x.unsqueeze(2)
    known = torch.cat([conv_state.to(x.dtype), tokens], 2)
    conv_state.copy_(known[..., -conv_state.shape[2] :])
    y = F.conv1d(known, _filters(weight), bias, groups=weight.shape[0])[..., -tokens.shape[2] :]
    y = F.silu(y) if activation in (True, "silu", "swish") else y
    return y if x.dim() == 3 else y.squeeze(2)


def run(x: Tensor, weight: Tensor, bias: Given, seq_idx: Given, *rest: Any) -> Tensor:
    """The extension's: (…, activation), or (…, initial_states, final_states_out, activation)."""
    check_absent("causal_conv1d_fwd", seq_idx=seq_idx)
    *states, activation = rest
    initial, final = (*states, None, None)[:2]
    if final is not None:
        final.copy_(_extend(x, weight, initial)[..., 1 - weight.shape[-1] :])
    return _convolve(x, weight, bias, initial, activation)


def differentiate_convolution(x: Tensor, weight: Tensor, bias: Given, grad: Tensor, seq_idx: Given, *rest: Any) -> Any:
    """Its gradients of x, which is written to dx as well, weight, bias and initial states: (…, dx, activation), or
    (…, initial_states, dfinal_states, dx, return_dinitial_states, activation)."""
    initial, of_final, into = rest[:3] if len(rest) == 5 else (None, None, rest[0])
    check_absent("causal_conv1d_bwd", seq_idx=seq_idx, dfinal_states=of_final)
    inputs = (x, weight, bias, initial)
    of_x, *others = differentiate(functools.partial(_convolve, activation=rest[-1]), inputs, grad)
    return [of_x if into is None else into.copy_(of_x), *others]


def _convolve(x: Tensor, weight: Tensor, bias: Given, initial: Given, activation: Any) -> Tensor:
    y = F.conv1d(_extend(x, weight, initial), _filters(weight), bias, groups=x.shape[1])
    return F.silu(y) if activation else y


def _extend(x: Tensor, weight: Tensor, initial: Given) -> Tensor:
    """x after the width - 1 tokens that it is preceded by, zeros where none are given."""
    return F.pad(x, (weight.shape[-1] - 1, 0)) if initial is None else torch.cat([initial.to(x.dtype), x], 2)


def _filters(weight: Tensor) -> Tensor:
    return weight if weight.dim() == 3 else weight.unsqueeze(1)


INTERFACE = {"causal_conv1d_fn": causal_conv1d_fn, "causal_conv1d_update": causal_conv1d_update}
