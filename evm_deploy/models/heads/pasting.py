"""From the small mask of each box to the pixels of the image that it covers."""

import torch
from torch import Tensor

from evm_deploy.showing.masks import LEAST


def paste_masks(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """The pixels that the masks (n, h, w), probabilities, cover in an image of (H, W): bool (n, H, W).

    A mask lies over its box (n, 4), as corners in pixels, and is interpolated linearly at the middle of each pixel.
    """
    down = _make_places(boxes[:, 1], boxes[:, 3], size[0], masks.shape[1])  # (n, H, h)
    across = _make_places(boxes[:, 0], boxes[:, 2], size[1], masks.shape[2])  # (n, W, w)
    return down @ masks @ across.transpose(1, 2) >= LEAST


def _make_places(start: Tensor, end: Tensor, length: int, cells: int) -> Tensor:
    """The share of each cell of a mask from `start` to `end` (n,) at each of `length` pixels: (n, length, cells).

    Where both are the same, the middle of the mask lies on all pixels that are near.
    """
    start, end = start[:, None], end[:, None]
    pixel = torch.arange(length, device=start.device, dtype=start.dtype)
    extent = end - start
    at = (pixel + 0.5 - start) / torch.where(extent == 0, extent + 1, extent)
    at = torch.where(extent == 0, torch.full_like(at, 0.5), at) * cells - 0.5
    near = (pixel >= start.floor() - 1) & (pixel < end.ceil() + 1)
    cell = torch.arange(cells, device=start.device, dtype=start.dtype)
    return (1 - (at[..., None] - cell).abs()).clamp(min=0) * near[..., None]
