"""The scan for compilers that know no loop, at fixed sizes and in rank 4 (5 around it): what Core ML is given.

As in `chunked`, T tokens are scanned inside every chunk at once, then the chunks one after the other; then T steps
more, from what enters each chunk, give every state. Each state is contracted with C where it is made: joining the
states first would move all of them, N times the size of the map, twice more. Every exponent is a product of delta >= 0
and A <= 0. Each operation runs in the type of its inputs: in float16 on a CPU, PyTorch rounds as a device does.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from evm_deploy.scan.inputs import AnyInputs, ScanInputs


def run(inputs: AnyInputs, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """As `reference.run`; the recurrence is computed in `dtype`, y has the dtype of u."""
    return inputs.through(lambda each: selective_scan(each, dtype))


def selective_scan(inputs: ScanInputs, dtype: torch.dtype) -> Tensor:
    """As `reference.selective_scan`."""
    u, delta, A, B, C, D, delta_bias, delta_softplus = inputs
    batch, K, L, channels = u.shape
    G, N = batch * K, A.shape[1]
    given = u.dtype
    u, delta = (t.to(dtype).reshape(G, L, channels) for t in (u, delta))
    B, C = (t.to(dtype).reshape(G, L, N) for t in (B, C))
    if delta_bias is not None:
        delta = delta + _per_group(delta_bias.to(dtype), batch)
    if delta_softplus:
        delta = F.softplus(delta)
    y = _scan(delta, _per_group(A.to(dtype), batch), delta * u, B, C)
    if D is not None:
        y = y + _per_group(D.to(dtype), batch) * u
    return y.to(given).reshape(batch, K, L, channels)


def chunk_length(L: int) -> int:
    """The T with the fewest operations: 5 a token of a chunk (2 in the first pass, 3 in the second), 2 a chunk.

    What is moved through memory hardly depends on T: about 21 times the states, of which the chunks' ends are 1 in T.
    """
    return min(range(1, L + 1), key=lambda T: (5 * T + 2 * math.ceil(L / T) + (3 if L % T else 0), -T))


def _per_group(t: Tensor, batch: int) -> Tensor:
    """(K, ...) -> (B*K, 1, ...)."""
    return (t if batch == 1 else t.repeat(batch, *[1] * (t.dim() - 1))).unsqueeze(1)


def _scan(delta: Tensor, A: Tensor, x: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """y_t = C_t h_t, h_t = exp(delta_t A) h_{t-1} + B_t x_t; G = B*K.

    delta, x, y: (G, L, D); A: (G, 1, N, D); B, C: (G, L, N).
    """
    G, L, D = delta.shape
    N, T = A.shape[2], chunk_length(L)
    if pad := -L % T:  # delta = 0, x = 0 keeps the state: exact
        delta, x, B, C = (F.pad(t, (0, 0, 0, pad)) for t in (delta, x, B, C))
    decays = torch.exp(delta.unsqueeze(2) * A).reshape(-1, T, N, D).split(1, 1)  # T of (G*chunks, 1, N, D)
    tokens = (x.unsqueeze(2) * B.unsqueeze(3)).reshape(-1, T, N, D).split(1, 1)
    rows = C.reshape(-1, T, 1, N).split(1, 1)

    end = tokens[0]
    for decay, token in zip(decays[1:], tokens[1:], strict=True):
        end = decay * end + token
    elapsed = delta.reshape(G, -1, T, D).sum(2)  # (G, chunks, D)
    h = _carry_states(torch.exp(elapsed.unsqueeze(2) * A), end.reshape(G, -1, N, D))
    h = h.reshape(-1, 1, N, D)

    outputs = []
    for decay, token, row in zip(decays, tokens, rows, strict=True):
        h = decay * h + token
        outputs.append(torch.matmul(row, h))  # (G*chunks, 1, 1, D)
    return torch.cat(outputs, 1).reshape(G, -1, D)[:, :L]


def _carry_states(decay: Tensor, end: Tensor) -> Tensor:
    """What enters each chunk: the states at the chunks' ends, one after the other. All (G, chunks, N, D)."""
    h = torch.zeros_like(end[:, :1])
    entering = [h]
    for a, x in zip(decay.split(1, 1)[:-1], end.split(1, 1)[:-1], strict=True):
        h = a * h + x
        entering.append(h)
    return torch.cat(entering, 1)
