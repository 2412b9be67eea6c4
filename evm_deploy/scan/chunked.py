"""The scan in chunks: few large tensor operations, differentiable, on any device; the arithmetic of the exported body.

T tokens are scanned one after the other inside a chunk, in all chunks at once; the states at the ends of the chunks are
a scan of the same form, over chunks; its result is carried into each chunk once. Every exponent is a sum of
non-positive terms, never a difference, so nothing overflows however large delta*A is.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from evm_deploy.scan.inputs import AnyInputs, ScanInputs

CHUNK = 28  # tokens a chunk; 784 = 28 * 28 is stage 1 of every variant at 224


def run(inputs: AnyInputs) -> Tensor:
    """As `reference.run`; the scan itself computes in float32 (float64 for float64 inputs), y has the dtype of u."""
    return inputs.through(selective_scan)


def selective_scan(inputs: ScanInputs) -> Tensor:
    """As `reference.selective_scan`."""
    y, _ = selective_scan_with_state(inputs)
    return y


def selective_scan_with_state(inputs: ScanInputs) -> tuple[Tensor, Tensor]:
    """`selective_scan` and the state after the last token, (B, K, N, D)."""
    D, delta_bias, delta_softplus = inputs[5:]
    dtype = inputs.u.dtype
    u, delta, A, B, C = (t.double() if dtype == torch.float64 else t.float() for t in inputs[:5])
    if delta_bias is not None:
        delta = delta + delta_bias[:, None, :]
    if delta_softplus:
        delta = F.softplus(delta)
    x = (delta * u).unsqueeze(3) * B.unsqueeze(4)  # (B, K, L, N, D)
    h = _states(delta.unsqueeze(3), A.unsqueeze(1), x)
    y = (C.unsqueeze(4) * h).sum(3)
    if D is not None:
        y = y + D[:, None, :] * u
    return y.to(dtype), h[:, :, -1]


def _states(delta: Tensor, A: Tensor, x: Tensor) -> Tensor:
    """h_t = exp(delta_t A) h_{t-1} + x_t. delta: (B, K, L, 1, D); A: (K, 1, N, D); x, result: (B, K, L, N, D)."""
    L = x.shape[2]
    T = min(CHUNK, L)
    if pad := -L % T:  # delta = 0, x = 0 keeps the state: exact
        delta, x = (F.pad(t, (0, 0, 0, 0, 0, pad)) for t in (delta, x))
    delta, x = (t.unflatten(2, (-1, T)) for t in (delta, x))  # (B, K, chunks, T, ., D)
    first, *rest = zip(delta.unbind(3), x.unbind(3), strict=True)  # the gradient of an index would be all of x
    states = [first[1]]
    for step, token in rest:
        states.append(torch.exp(step * A) * states[-1] + token)
    h = torch.stack(states, 3)  # (B, K, chunks, T, N, D), each chunk from a zero state
    if L > T:
        elapsed = delta.cumsum(3)
        ends = _states(elapsed[:, :, :, -1], A, h[:, :, :, -1])  # (B, K, chunks, N, D)
        carry = F.pad(ends[:, :, :-1], (0, 0, 0, 0, 1, 0)).unsqueeze(3)
        h = h + torch.exp(elapsed * A.unsqueeze(2)) * carry
    return h.flatten(2, 3)[:, :, :L]
