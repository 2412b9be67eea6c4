"""The scan under mamba's public name and layout (channels before time), for other people's models to call."""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from evm_deploy.scan.chunked import selective_scan_with_state
from evm_deploy.scan.inputs import ScanInputs
from evm_deploy.scan.ops import selective_scan


def selective_scan_fn(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Selective scan in mamba's layout, and in VMamba's: channels in G groups that share B and C.

    u, delta, z: (batch, dim, L); A: (dim, N), real; B, C: (batch, N, L), or (batch, G, N, L) with dim divisible by G
    (VMamba: G directions of dim / G channels), or (dim, N), constant over time; D, delta_bias: (dim,).
    Returns y: (batch, dim, L) in the dtype of u, and with `return_last_state` also the state after the last token,
    (batch, dim, N). Raises ValueError for a complex A and for shapes that do not fit together.
    """
    batch, dim, L = u.shape
    if A.is_complex():
        raise ValueError("A is complex: only the real selective scan is implemented")
    groups = [dim if t.dim() == 2 else t.shape[1] if t.dim() == 4 else 1 for t in (B, C)]
    G = max(groups)
    if dim % G or any(G % g for g in groups):
        raise ValueError(f"{dim} channels cannot be shared by the {groups[0]} groups of B and {groups[1]} of C")

    dtype = functools.reduce(torch.promote_types, (t.dtype for t in (u, delta, B, C)))  # the operator takes one

    def channels(t: Tensor) -> Tensor:
        return t.to(dtype).reshape(batch, G, dim // G, L).transpose(2, 3)  # (batch, G, L, dim/G)

    def tokens(t: Tensor) -> Tensor:
        if t.dim() == 2:
            t = t[None, :, :, None].expand(batch, dim, -1, L)
        elif t.dim() == 3:
            t = t.unsqueeze(1)
        return t.to(dtype).repeat_interleave(G // t.shape[1], 1).transpose(2, 3)  # (batch, G, L, N)

    def constants(t: Tensor) -> Tensor:
        """As the recurrence takes them in every precision: at least float32."""
        return t.to(torch.promote_types(t.dtype, torch.float32))

    inputs = ScanInputs(
        channels(u),
        channels(delta),
        constants(A).reshape(G, dim // G, -1).transpose(1, 2),  # (G, N, dim/G)
        tokens(B),
        tokens(C),
        None if D is None else constants(D).reshape(G, dim // G),
        None if delta_bias is None else constants(delta_bias).reshape(G, dim // G),
        delta_softplus,
    )
    y, state = selective_scan_with_state(inputs) if return_last_state else (selective_scan(*inputs), None)
    y = y.transpose(2, 3).reshape(batch, dim, L).to(u.dtype)
    if z is not None:
        y = y * F.silu(z)
    return y if state is None else (y, state.transpose(2, 3).reshape(batch, dim, -1))
