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
    dx, dy, dw, dh = (deltas * deltas.new_tensor(std)).unbind(-1)
    x0, y0, x1, y1 = anchors.unbind(-1)
    w, h = x1 - x0, y1 - y0
    x, y = (x0 + x1) / 2 + w * dx, (y0 + y1) / 2 + h * dy
    half_w = w * dw.clamp(-LARGEST_LOG, LARGEST_LOG).exp() / 2
    half_h = h * dh.clamp(-LARGEST_LOG, LARGEST_LOG).exp() / 2
    boxes = torch.stack([x - half_w, y - half_h, x + half_w, y + half_h], -1)
    return torch.minimum(boxes.clamp(min=0), limit.repeat(2))


def have_area(boxes: Tensor) -> Tensor:
    """Which of the boxes (..., 4) are wider and higher than nothing, (...)."""
    return (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1])
