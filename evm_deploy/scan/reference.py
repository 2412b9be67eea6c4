"""The scan as the paper writes it, one token at a time, in the dtype of its inputs: what all else is held against."""

import torch
import torch.nn.functional as F
from torch import Tensor

from evm_deploy.scan.inputs import AnyInputs, ScanInputs


def run(inputs: AnyInputs) -> Tensor:
    """y of these inputs."""
    return inputs.through(selective_scan)


def selective_scan(inputs: ScanInputs) -> Tensor:
    """h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t;  y_t = C_t h_t + D u_t  (arXiv 2312.00752, equations 1 and 4)."""
    u, delta, A, B, C, D, delta_bias, delta_softplus = inputs
    if delta_bias is not None:
        delta = delta + delta_bias[:, None, :]
    if delta_softplus:
        delta = F.softplus(delta)
    h = u.new_zeros(u.shape[0], *A.shape)  # (B, K, N, D)
    ys = []
    for t in range(u.shape[2]):
        step, token = delta[:, :, t, None, :], u[:, :, t, None, :]  # (B, K, 1, D)
        h = torch.exp(step * A) * h + step * token * B[:, :, t, :, None]
        ys.append((C[:, :, t, :, None] * h).sum(2))
    y = torch.stack(ys, 2)
    return y if D is None else y + D[:, None, :] * u
