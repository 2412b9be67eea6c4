"""RoIAlign as a torch operator, so that a graph has it as one node."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


@torch.library.custom_op(
    "evm::align_regions",
    mutates_args=(),
    schema="(Tensor map, Tensor boxes, int rows, int columns, float scale, int samples) -> Tensor",
)
def align_regions(*arguments: Any) -> Tensor:
    """What lies under each of `boxes` (n, 4), as corners in pixels, of a map (1, C, h, w): (n, C, rows, columns).

    A box, times `scale` and half a cell less, is cut into rows and columns; each part is the mean of points on a grid
    in it, interpolated linearly. `samples`: the points along a side of each part; 0: one for each cell it covers, at
    least in part. A point more than a cell outside of the map counts as 0, others outside as the edge.
    """
    map, boxes, rows, columns, scale, samples = arguments
    cells = map[0].detach().cpu().numpy()
    corners = boxes.detach().cpu().numpy() * np.float32(scale) - np.float32(0.5)
    found = np.zeros((len(corners), len(cells), rows, columns), cells.dtype)
    for each, (x0, y0, x1, y1) in zip(found, corners, strict=True):
        top, down = _make_weights(y0, y1 - y0, rows, cells.shape[1], samples)
        left, across = _make_weights(x0, x1 - x0, columns, cells.shape[2], samples)
        part = cells[:, top : top + down.shape[1], left : left + across.shape[1]]
        each[:] = down @ part @ across.T
    return torch.from_numpy(found).to(map.device)


def _make_weights(
    start: np.float32, size: np.float32, parts: int, length: int, samples: int
) -> tuple[int, npt.NDArray[np.float32]]:
    """The first cell that counts, and the share of each from there on in each of the parts, (parts, cells)."""
    points = samples or math.ceil(size / np.float32(parts))
    if points <= 0:
        return 0, np.zeros((parts, 1), np.float32)
    step = size / np.float32(parts)
    fine = (np.arange(points, dtype=np.float32) + np.float32(0.5)) * step / np.float32(points)
    at = start + np.arange(parts, dtype=np.float32)[:, None] * step + fine
    counts = (at >= -1) & (at <= length)
    at = at.clip(0, length - 1)
    first, last = math.floor(at.min()), math.ceil(at.max())
    distance = np.abs(at[..., None] - np.arange(first, last + 1, dtype=np.float32))
    weights = (np.float32(1) - distance).clip(0) * counts[..., None]
    return first, weights.mean(1, dtype=np.float32)


@align_regions.register_fake
def _(map: Tensor, boxes: Tensor, rows: int, columns: int, scale: float, samples: int) -> Tensor:
    return map.new_empty(boxes.shape[0], map.shape[1], rows, columns)


def find_overload() -> Any:
    """The overload that a traced program calls."""
    return torch.ops.evm.align_regions.default


def translate(op: Any) -> Callable[..., Any]:
    """As ONNX's RoiAlign of the one image."""

    def align(map, boxes, rows, columns, scale, samples):  # type: ignore[no-untyped-def]
        count = op.Shape(boxes, start=0, end=1)
        image = op.Expand(op.Constant(value_ints=[0]), count)
        return op.RoiAlign(
            map,
            boxes,
            image,
            output_height=rows,
            output_width=columns,
            sampling_ratio=samples,
            spatial_scale=scale,
            coordinate_transformation_mode="half_pixel",
        )

    return align
