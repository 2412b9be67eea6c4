"""Boxes as corners (x0, y0, x1, y1) in pixels: anchors, and what a network says of them."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

LARGEST_LOG = abs(math.log(16 / 1000))  # of how many times a side becomes longer or shorter


def make_cell_anchors(stride: int, scales: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """The anchors of the first cell, (A, 4): all scales of the first ratio of height to width, then of the next."""
    roots = torch.tensor(ratios).sqrt()[:, None]  # (ratios, 1)
    sizes = torch.tensor(scales)[None]
    half = torch.stack([(stride / roots * sizes).flatten(), (stride * roots * sizes).flatten()], 1) / 2
    return torch.cat([-half, half], 1)


def make_anchors(cell: Tensor, map: Tensor, stride: int) -> Tensor:
    """The anchors of a map (B, C, h, w), (h * w * A, 4), row by row: a cell's lie about its upper left corner."""
    rows, columns = map.shape[2:]
    x = (torch.arange(columns) * stride).to(cell.dtype)
    y = (torch.arange(rows) * stride).to(cell.dtype)
    corner = torch.stack([x.repeat(rows), y[:, None].expand(rows, columns).reshape(-1)], 1)  # (rows * columns, 2)
    return (cell + corner.repeat(1, 2)[:, None]).view(-1, 4)


def decode_boxes(anchors: Tensor, deltas: Tensor, limit: Tensor, std: Sequence[float] = (1, 1, 1, 1)) -> Tensor:
    """The boxes (..., 4) that `deltas` (..., 4) make of `anchors`: shifts in sizes of these, logarithms of growth.

    limit: (2,) the width and height that boxes are clipped to.
    """
    moved = deltas * deltas.new_tensor(std)
    start, end = anchors[..., :2], anchors[..., 2:]
    size = end - start
    middle = (start + end) / 2 + size * moved[..., :2]
    half = size * moved[..., 2:].clamp(-LARGEST_LOG, LARGEST_LOG).exp() / 2
    boxes = torch.cat([middle - half, middle + half], -1)
    return torch.minimum(boxes.clamp(min=0), limit.repeat(2))


def have_area(boxes: Tensor) -> Tensor:
    """Which of the boxes (..., 4) are wider and higher than nothing, (...)."""
    return (boxes[..., 2:] > boxes[..., :2]).all(-1)
