"""The full cross-scan of VMamba (SS2D): four sequences over every token, summed. An ablation of ES2D."""

import torch
from torch import Tensor

from evm_deploy import scan


def cross_scan_2d(x: Tensor, x_proj: Tensor, dt_proj: Tensor, dt_bias: Tensor, A: Tensor, D: Tensor) -> Tensor:
    """(B, H, W, D) -> (B, H, W, D): row-major, column-major, and the reverse of both.

    x_proj (4,D,R+2N), dt_proj (4,R,D), dt_bias (4,D), A (4,N,D), D (4,D).
    """
    H, W = x.shape[1], x.shape[2]
    R, N = dt_proj.shape[1], A.shape[1]
    rows, columns = x.flatten(1, 2), x.transpose(1, 2).flatten(1, 2)  # (B, L, D)
    u = torch.stack([rows, columns, rows.flip(1), columns.flip(1)], 1)  # (B, 4, L, D)
    dt, B, C = torch.split(u @ x_proj, [R, N, N], -1)
    y: Tensor = scan.selective_scan(u, dt @ dt_proj, A, B, C, D, dt_bias, True)
    by_row = y[:, 0] + y[:, 2].flip(1)
    by_column = (y[:, 1] + y[:, 3].flip(1)).reshape(-1, W, H, x.shape[3]).transpose(1, 2)  # (B, H, W, D)
    merged: Tensor = by_row.reshape(x.shape) + by_column
    return merged
