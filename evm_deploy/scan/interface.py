"""The scan under mamba's public name and layout (channels before time), for other people's models to call."""

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from evm_deploy.scan.inputs import ScanInputs
from evm_deploy.scan.ops import selective_scan

BACKENDS = (None, "core", "mamba", "ndstate", "nrow", "oflex", "torch")  # names of VMamba's kernels: one mathematics


def selective_scan_fn(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | bool | None = None,
    delta_softplus: bool = False,
    return_last_state: Any = False,
    *others: Any,
    oflex: bool = False,
    backend: str | None = None,
    nrows: int = 1,
) -> Tensor | tuple[Tensor, Tensor]:
    """Selective scan in mamba's layout, and in VMamba's: channels in G groups that share B and C.

    u, delta, z: (batch, dim, L); A: (dim, N), real; B, C: (batch, N, L), or (batch, G, N, L) with dim divisible by G
    (VMamba: G directions of dim / G channels), or (dim, N), constant over time; D, delta_bias: (dim,).
    Returns y: (batch, dim, L) in the dtype of u, at least float32 with `oflex`, and with `return_last_state` also the
    state after the last token, (batch, dim, N), at least float32. `backend` and `nrows` choose among VMamba's kernels,
    and change nothing here.

    VMamba's order is taken as well: after D come delta_bias (dim,), delta_softplus, and oflex, backend or nrows.
    Raises ValueError for a complex A, for shapes that do not fit together, and for arguments of neither order.
    """
    bias: Tensor | None
    if isinstance(delta_bias, bool):  # in the place of VMamba's delta_softplus
        others = (delta_softplus, return_last_state, *others)
        z, bias, delta_softplus, return_last_state = None, z, delta_bias, False
        oflex = oflex or any(other is True for other in others)
        backend = next((other for other in others if isinstance(other, str)), backend)
    elif z is not None and z.dim() == 1:
        raise ValueError("z has the shape of delta_bias, (dim,): name delta_bias, or pass delta_softplus after it")
    elif others:
        raise ValueError(f"{10 + len(others)} arguments are given in mamba's order, which has 10")
    else:
        bias = delta_bias
    if backend not in BACKENDS:
        raise ValueError(f"there is no backend {backend!r}")
    if z is not None and z.shape != u.shape:
        raise ValueError(f"z has shape {tuple(z.shape)}, and u {tuple(u.shape)}")
    inputs = arrange_inputs(u, delta, A, B, C, D, bias, delta_softplus, at_least_float32=oflex)
    batch, dim, L = u.shape
    y: Tensor = selective_scan(*inputs).transpose(2, 3).reshape(batch, dim, L)
    y = _cast(y, inputs.u.dtype if oflex else u.dtype)
    if z is not None:
        y = y * F.silu(z)
    if not return_last_state:
        return y
    return y, scan_states(u, delta, A, B, bias, delta_softplus)[..., -1]


def scan_states(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> Tensor:
    """The states after each token, (batch, dim, N, L), at least float32."""
    inputs = arrange_inputs(u, delta, A, B, B, None, delta_bias, delta_softplus, at_least_float32=True)
    return compute_states(inputs).permute(0, 1, 4, 2, 3).flatten(1, 2)


def compute_states(inputs: ScanInputs) -> Tensor:
    """The states after each token, (batch, G, N, L, channels): N scans of one state each, in one operator."""
    (batch, G, L, channels), N = inputs.u.shape, inputs.A.shape[1]

    def repeat(t: Tensor) -> Tensor:
        """(batch, G, L, channels) -> (batch, G*N, L, channels)."""
        return t.unsqueeze(2).expand(-1, -1, N, -1, -1).reshape(batch, G * N, L, channels)

    weights, bias = inputs.B.transpose(2, 3).reshape(batch, G * N, L, 1), inputs.delta_bias
    states: Tensor = selective_scan(
        repeat(inputs.u),
        repeat(inputs.delta),
        inputs.A.reshape(G * N, 1, channels),
        weights,
        torch.ones_like(weights),
        None,
        None if bias is None else bias.unsqueeze(1).expand(-1, N, -1).reshape(G * N, channels),
        inputs.delta_softplus,
    )
    return states.reshape(batch, G, N, L, channels)


def arrange_inputs(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    *,
    at_least_float32: bool = False,
) -> ScanInputs:
    """The arguments of `selective_scan_fn` as the operator takes them."""
    batch, dim, L = u.shape
    if A.is_complex():
        raise ValueError("A is complex: only the real selective scan is implemented")
    groups = [dim if t.dim() == 2 else t.shape[1] if t.dim() == 4 else 1 for t in (B, C)]
    G = max(groups)
    if dim % G or any(G % g for g in groups):
        raise ValueError(f"{dim} channels cannot be shared by the {groups[0]} groups of B and {groups[1]} of C")

    dtype = functools.reduce(torch.promote_types, (t.dtype for t in (u, delta, B, C)))  # the operator takes one
    dtype = torch.promote_types(dtype, torch.float32) if at_least_float32 else dtype

    def channels(t: Tensor) -> Tensor:
        return _cast(t, dtype).reshape(batch, G, dim // G, L).transpose(2, 3)  # (batch, G, L, dim/G)

    def tokens(t: Tensor) -> Tensor:
        if t.dim() == 2:
            t = t[None, :, :, None].expand(batch, dim, -1, L)
        elif t.dim() == 3:
            t = t.unsqueeze(1)
        t = t if t.shape[1] == G else t.repeat_interleave(G // t.shape[1], 1)
        return _cast(t, dtype).transpose(2, 3)  # (batch, G, L, N)

    def constants(t: Tensor) -> Tensor:
        """As the recurrence takes them in every precision: at least float32."""
        return _cast(t, torch.promote_types(t.dtype, torch.float32))

    return ScanInputs(
        channels(u),
        channels(delta),
        constants(A).reshape(G, dim // G, -1).transpose(1, 2),  # (G, N, dim/G)
        tokens(B),
        tokens(C),
        None if D is None else constants(D).reshape(G, dim // G),
        None if delta_bias is None else constants(delta_bias).reshape(G, dim // G),
        delta_softplus,
    )


def _cast(t: Tensor, dtype: torch.dtype) -> Tensor:
    """Without a trace where it is of that dtype."""
    return t if t.dtype == dtype else t.to(dtype)
