"""Mamba-2: its state space duality is a selective scan whose heads have one step and one decay for all their channels.

x (batch, L, heads, p), dt (batch, L, heads), A (heads,), B and C (batch, L, G, N) with heads divisible by G,
D (heads,) or (heads, p), z as x.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from evm_deploy.compat.causal_conv1d import causal_conv1d_fn
from evm_deploy.compat.norms import gate_rms_norm
from evm_deploy.compat.refusals import check_absent
from evm_deploy.compat.scan_extensions import Given
from evm_deploy.scan.inputs import ScanInputs
from evm_deploy.scan.interface import compute_states
from evm_deploy.scan.ops import selective_scan

ANY_STEP = (0.0, math.inf)


def mamba_chunk_scan_combined(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    chunk_size: int,
    D: Given = None,
    z: Given = None,
    dt_bias: Given = None,
    initial_states: Given = None,
    seq_idx: Given = None,
    cu_seqlens: Given = None,
    dt_softplus: bool = False,
    dt_limit: tuple[float, float] = ANY_STEP,
    return_final_states: bool = False,
    **others: Any,
) -> Any:
    """y, as x; with `return_final_states` also the states after the last token, (batch, heads, p, N).

    chunk_size is for the kernels, and changes nothing.
    """
    if isinstance(cu_seqlens, bool):  # forks have no cu_seqlens before dt_softplus
        rest = (cu_seqlens, dt_softplus, dt_limit)
        dt_softplus, cu_seqlens = cu_seqlens, None
        dt_limit = rest[1] if isinstance(rest[1], tuple) else ANY_STEP
        return_final_states = rest[2] if isinstance(rest[2], bool) else return_final_states
    name = "mamba_chunk_scan_combined"
    check_absent(name, initial_states=initial_states, seq_idx=seq_idx, cu_seqlens=cu_seqlens, **others)
    (batch, L, heads, p), (G, N) = x.shape, B.shape[2:]

    def channels(t: Tensor) -> Tensor:
        """(batch, L, heads, p) -> (batch, G, L, heads/G * p)."""
        return t.float().reshape(batch, L, G, -1).transpose(1, 2)

    dt = dt.float() if dt_bias is None else dt.float() + dt_bias.float()
    dt = F.softplus(dt) if dt_softplus else dt
    dt = dt if dt_limit == ANY_STEP else dt.clamp(*dt_limit)
    inputs = ScanInputs(
        channels(x),
        channels(dt.unsqueeze(3).expand(batch, L, heads, p)),
        A.float().reshape(G, 1, -1, 1).expand(G, N, -1, p).reshape(G, N, -1),
        B.float().transpose(1, 2),
        C.float().transpose(1, 2),
        None if D is None else D.float().reshape(heads, -1).expand(heads, p).reshape(G, -1),
    )
    y = selective_scan(*inputs).transpose(1, 2).reshape(x.shape)
    y = (y if z is None else y * F.silu(z.float())).to(x.dtype)
    if not return_final_states:
        return y
    last = compute_states(inputs)[:, :, :, -1].unflatten(3, (-1, p))  # (batch, G, N, heads/G, p)
    return y, last.permute(0, 1, 3, 4, 2).reshape(batch, heads, p, N)


def mamba_split_conv1d_scan_combined(
    zxbcdt: Tensor,
    conv1d_weight: Tensor,
    conv1d_bias: Given,
    dt_bias: Given,
    A: Tensor,
    D: Tensor,
    chunk_size: int,
    initial_states: Given = None,
    seq_idx: Given = None,
    dt_limit: tuple[float, float] = ANY_STEP,
    return_final_states: bool = False,
    activation: str = "silu",
    rmsnorm_weight: Given = None,
    rmsnorm_eps: float = 1e-6,
    outproj_weight: Given = None,
    outproj_bias: Given = None,
    headdim: int | None = None,
    ngroups: int = 1,
    norm_before_gate: bool = True,
    **others: Any,
) -> Any:
    """A whole Mamba-2 mixer after its first projection, (batch, L, .) of gates, inputs, B, C and steps."""
    name = "mamba_split_conv1d_scan_combined"
    check_absent(name, initial_states=initial_states, seq_idx=seq_idx, **others)
    heads, p = D.shape[0], headdim if D.dim() == 1 else D.shape[1]
    assert p is not None
    dim, mixed = heads * p, conv1d_weight.shape[0]
    plain, z, mixture, dt = zxbcdt.split([zxbcdt.shape[-1] - dim - mixed - heads, dim, mixed, heads], -1)
    mixture = causal_conv1d_fn(mixture.transpose(1, 2), conv1d_weight, conv1d_bias, activation=activation)
    parts = mixture.transpose(1, 2).split([dim, (mixed - dim) // 2, (mixed - dim) // 2], -1)
    x, B, C = (part.unflatten(-1, (n, -1)) for part, n in zip(parts, (heads, ngroups, ngroups), strict=True))
    gate = z.unflatten(-1, (heads, p)) if rmsnorm_weight is None else None
    options: dict[str, Any] = {"dt_limit": dt_limit, "return_final_states": return_final_states}
    found = mamba_chunk_scan_combined(x, dt, A, B, C, chunk_size, D, gate, dt_bias, dt_softplus=True, **options)
    y, *states = found if return_final_states else (found,)
    y = y.flatten(2)
    if rmsnorm_weight is not None:
        y = gate_rms_norm(y, rmsnorm_weight, None, z, rmsnorm_eps, dim // ngroups, norm_before_gate)
    if plain.shape[-1]:  # channels that pass by the scan
        gates, values = plain.chunk(2, -1)
        y = torch.cat([F.silu(gates) * values, y], -1)
    y = y if outproj_weight is None else F.linear(y, outproj_weight, outproj_bias)
    return (y, *states) if return_final_states else y


def selective_state_update(
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Given = None,
    z: Given = None,
    dt_bias: Given = None,
    dt_softplus: bool = False,
    state_batch_indices: Given = None,
) -> Tensor:
    """One token: x, dt (batch, [heads,] dim), A ([heads,] dim, N), B, C (batch, [G,] N); the state is changed."""
    check_absent("selective_state_update", state_batch_indices=state_batch_indices)
    dt = dt if dt_bias is None else dt + dt_bias
    dt = (F.softplus(dt) if dt_softplus else dt).unsqueeze(-1)
    if B.dim() == 3:  # of groups of heads
        B, C = (t.repeat_interleave(state.shape[1] // t.shape[1], 1) for t in (B, C))
    B, C = (t.unsqueeze(-2) for t in (B, C))
    state.copy_(torch.exp(dt * A) * state + dt * B * x.unsqueeze(-1))
    y = (state.to(C.dtype) * C).sum(-1)
    y = y if D is None else y + D * x
    return (y if z is None else y * F.silu(z)).to(x.dtype)


COMBINED = {
    "mamba_chunk_scan_combined": mamba_chunk_scan_combined,
    "mamba_split_conv1d_scan_combined": mamba_split_conv1d_scan_combined,
}
