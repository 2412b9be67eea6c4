"""The scan as the paper writes it, one token at a time, in the dtype of its inputs: what all else is held against."""

import torch
import torch.nn.functional as F
from torch import Tensor

from evm_deploy.scan.atrous import gather, scatter


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
    """h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t;  y_t = C_t h_t + D u_t  (arXiv 2312.00752, equations 1 and 4).

    u, delta: (B, K, L, D); A: (K, N, D), negative; B, C: (B, K, L, N); D, delta_bias: (K, D). Returns y: (B, K, L, D).
    """
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


def efficient_scan_2d(
    x: Tensor, x_proj: Tensor, dt_proj: Tensor, dt_bias: Tensor, A: Tensor, D: Tensor, step: int = 2
) -> Tensor:
    """ES2D, the atrous selective scan (arXiv 2403.09977, section 3.1): step*step groups, each scanned by itself.

    x: (B, H, W, D); x_proj: (K, D, R+2N), columns dt | B | C; dt_proj: (K, R, D); dt_bias, D: (K, D); A: (K, N, D).
    Returns y: (B, H, W, D).
    """
    R, N = dt_proj.shape[1], A.shape[1]
    u = gather(x, step)  # (B, K, L, D)
    dt, B, C = torch.matmul(u, x_proj).split([R, N, N], dim=-1)
    y = selective_scan(u, torch.matmul(dt, dt_proj), A, B, C, D, dt_bias, delta_softplus=True)
    return scatter(y, x.shape[1], x.shape[2], step)


def quantized_efficient_scan_2d(
    x: Tensor,
    x_scale: float,
    x_zero_point: int,
    x_proj: Tensor,
    x_proj_scale: Tensor,
    dt_proj: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    step: int = 2,
) -> Tensor:
    """The same with x_proj (K, D, R+2N) in int8, times x_proj_scale (K, R+2N), and for its sake x in uint8.

    What is scanned is x as it was. Rounding is that of ONNX's QuantizeLinear: the quotient in float32, ties to even,
    then saturation.
    """
    R, N = dt_proj.shape[1], A.shape[1]
    u = gather(x, step)  # (B, K, L, D)
    integers = ((u.float() / x_scale).round() + x_zero_point).clamp(0, 255) - x_zero_point
    projected = torch.matmul(integers.to(x.dtype), x_proj.to(x.dtype)) * (x_scale * x_proj_scale[:, None])
    dt, B, C = projected.split([R, N, N], dim=-1)
    y = selective_scan(u, torch.matmul(dt, dt_proj), A, B, C, D, dt_bias, delta_softplus=True)
    return scatter(y, x.shape[1], x.shape[2], step)
