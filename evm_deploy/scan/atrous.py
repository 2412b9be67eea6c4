"""Which token goes where: the atrous groups of ES2D, as plain indexing."""

import torch
import torch.nn.functional as F
from torch import Tensor


def gather(x: Tensor, step: int) -> Tensor:
    """(B, H, W, D) -> (B, step*step, L, D), zero-padded at the bottom and the right to a multiple of `step`.

    Group k holds rows k % step and columns k // step, every `step`; odd groups run column by column.
    """
    H, W = x.shape[1], x.shape[2]
    x = F.pad(x, (0, 0, 0, -W % step, 0, -H % step))
    groups = []
    for k in range(step * step):
        group = x[:, k % step :: step, k // step :: step]  # (B, h, w, D)
        groups.append((group.transpose(1, 2) if k % 2 else group).flatten(1, 2))
    return torch.stack(groups, 1)


def scatter(y: Tensor, height: int, width: int, step: int) -> Tensor:
    """The inverse of `gather`: (B, step*step, L, D) -> (B, height, width, D), the padding cropped."""
    h, w = -(-height // step), -(-width // step)
    groups = [
        y[:, k].unflatten(1, (w, h)).transpose(1, 2) if k % 2 else y[:, k].unflatten(1, (h, w))
        for k in range(step * step)
    ]
    columns = [torch.stack(groups[c * step : (c + 1) * step], 2) for c in range(step)]  # each (B, h, step, w, D)
    return torch.stack(columns, 4).flatten(3, 4).flatten(1, 2)[:, :height, :width]
