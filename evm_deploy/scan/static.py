"""The scan for compilers that know no loop, at fixed sizes and in rank 4 (5 around it): what Core ML is given.

As in `chunked`, T tokens are scanned inside every chunk at once, then the chunks one after the other; then T steps
more, from what enters each chunk, give every state. Each state is contracted with C where it is made: joining the
states first would move all of them, N times the size of the map, twice more. Every exponent is a product of delta >= 0
and A <= 0. Each operation runs in the type of its inputs: in float16 on a CPU, PyTorch rounds as a device does.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from evm_deploy.scan.inputs import AnyInputs, ScanInputs
from evm_deploy.scan.kernel_inputs import OrderedScanInputs


def run(
    inputs: AnyInputs,
    *,
    dtype: torch.dtype = torch.float32,
    mark: Callable[[Tensor], Tensor] = lambda groups: groups,
) -> Tensor:
    """As `reference.run`; the recurrence is computed in `dtype`, y has the dtype of u.

    mark: of results that are added up, before they are: (B, K, L', D), in which more may follow the L tokens.
    """
    if not isinstance(inputs, OrderedScanInputs):
        return inputs.through(lambda each: selective_scan(each, dtype))
    L = inputs.order.shape[1]
    inputs = inputs.lengthen(-(-L // chunk_length(L)) * chunk_length(L))
    return inputs.add_up(mark(inputs.groups.through(lambda each: selective_scan(each, dtype))))


def selective_scan(inputs: ScanInputs, dtype: torch.dtype) -> Tensor:
    """As `reference.selective_scan`."""
    A, D, delta_bias, given = inputs.A.to(dtype), inputs.D, inputs.delta_bias, inputs.u.dtype
    u, delta, B, C = (t.to(dtype) for t in (inputs.u, inputs.delta, inputs.B, inputs.C))
    if delta_bias is not None:
        delta = delta + delta_bias.to(dtype).unsqueeze(1)
    if inputs.delta_softplus:
        delta = F.softplus(delta)
    y = _scan(delta, A, delta * u, B, C)
    if D is not None:
        y = y + D.to(dtype).unsqueeze(1) * u
    return y.to(given)


def chunk_length(L: int) -> int:
    """The T with the fewest operations: 5 a token of a chunk (2 in the first pass, 3 in the second), 2 a chunk.

    What is moved through memory hardly depends on T: about 21 times the states, of which the chunks' ends are 1 in T.
    """
    return min(range(1, L + 1), key=lambda T: (5 * T + 2 * math.ceil(L / T) + (3 if L % T else 0), -T))


def _scan(delta: Tensor, A: Tensor, x: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """y_t = C_t h_t, h_t = exp(delta_t A) h_{t-1} + B_t x_t.

    delta, x, y: (B, K, L, D); A: (K, N, D); B, C: (B, K, L, N).
    """
    batch, K, L, D = delta.shape
    G, N, T = batch * K, A.shape[1], chunk_length(L)
    if pad := -L % T:  # what these tokens do is seen by none before them
        delta, x, B, C = (F.pad(t, (0, 0, 0, pad)) for t in (delta, x, B, C))
    A = (A if batch == 1 else A.repeat(batch, 1, 1)).unsqueeze(1)  # (G, 1, N, D)
    decays = torch.exp(delta.reshape(G, -1, 1, D) * A).reshape(-1, T, N, D).split(1, 1)  # T of (G*chunks, 1, N, D)
    tokens = (x.reshape(G, -1, 1, D) * B.reshape(G, -1, N, 1)).reshape(-1, T, N, D).split(1, 1)
    rows = C.reshape(-1, T, 1, N).split(1, 1)

    end = tokens[0]
    for decay, token in zip(decays[1:], tokens[1:], strict=True):
        end = decay * end + token
    elapsed = delta.reshape(G, -1, T, D).sum(2, keepdim=True)  # (G, chunks, 1, D)
    h = _carry_states(torch.exp(elapsed * A), end.reshape(G, -1, N, D)).reshape(-1, 1, N, D)

    outputs = []
    for decay, token, row in zip(decays, tokens, rows, strict=True):
        h = decay * h + token
        outputs.append(torch.matmul(row, h))  # (G*chunks, 1, 1, D)
    return torch.cat(outputs, 1).reshape(batch, K, -1, D)[:, :, :L]


def _carry_states(decay: Tensor, end: Tensor) -> Tensor:
    """What enters each chunk: the states at the chunks' ends, one after the other. All (G, chunks, N, D)."""
    entering = [torch.zeros_like(end[:, :1])]
    for i, (a, x) in enumerate(zip(decay.split(1, 1)[:-1], end.split(1, 1)[:-1], strict=True)):
        entering.append(a * entering[-1] + x if i else x)
    return torch.cat(entering, 1)
