"""Non-maximum suppression as a torch operator, so that a graph has it as one node."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor


@torch.library.custom_op(
    "evm::suppress_boxes",
    mutates_args=(),
    schema="(Tensor boxes, Tensor scores, float most_overlap, float least_score, int most) -> Tensor",
)
def suppress_boxes(*arguments: Any) -> Tensor:
    """The places of the boxes that stay, (n,) int64, best first, of boxes (K, 4) as corners and scores (K,).

    A box stays whose score is above `least_score`, and whose intersection over union with every better box that stays
    is at most `most_overlap`; no more than `most`. Of equal scores the first is better.
    """
    boxes, scores, most_overlap, least_score, most = arguments
    corners, levels = (each.detach().cpu().numpy() for each in (boxes, scores))
    places = np.argsort(-levels, kind="stable")
    left = places[levels[places] > least_score]
    x0, y0, x1, y1 = corners.T
    areas = (x1 - x0) * (y1 - y0)
    kept: list[int] = []
    while len(left) and len(kept) < most:
        best, left = left[0], left[1:]
        kept.append(int(best))
        w = np.minimum(x1[best], x1[left]) - np.maximum(x0[best], x0[left])
        h = np.minimum(y1[best], y1[left]) - np.maximum(y0[best], y0[left])
        common = w.clip(0) * h.clip(0)
        whole = areas[best] + areas[left] - common
        left = left[~(common > np.float32(most_overlap) * whole)]
    return torch.tensor(kept, dtype=torch.int64, device=boxes.device)


@suppress_boxes.register_fake
def _(boxes: Tensor, scores: Tensor, most_overlap: float, least_score: float, most: int) -> Tensor:
    return boxes.new_empty(torch.library.get_ctx().new_dynamic_size(), dtype=torch.int64)


def suppress_by_group(
    boxes: Tensor, scores: Tensor, groups: Tensor, most_overlap: float, least_score: float, most: int
) -> Tensor:
    """The same where only boxes of one group (K,) suppress each other: each group is moved to a place of its own.

    The distance is the greatest coordinate of the boxes that count, as mmcv has it; all coordinates are at least 0.
    """
    counted = torch.where((scores > least_score)[:, None], boxes, boxes.new_zeros(()))
    greatest = torch.cat([counted.flatten(), boxes.new_zeros(1)]).amax(0)  # there may be no boxes
    apart = groups.to(boxes.dtype) * (greatest + 1)
    kept: Tensor = suppress_boxes(boxes + apart[:, None], scores, most_overlap, least_score, most)
    return kept


def find_overload() -> Any:
    """The overload that a traced program calls."""
    return torch.ops.evm.suppress_boxes.default


def translate(op: Any) -> Callable[..., Any]:
    """As ONNX's NonMaxSuppression, of one image and one class."""

    def suppress(boxes, scores, most_overlap, least_score, most):  # type: ignore[no-untyped-def]
        limits = [op.Constant(value_float=each) for each in (most_overlap, least_score)]
        one, two = op.Constant(value_ints=[0]), op.Constant(value_ints=[0, 1])
        places = op.NonMaxSuppression(
            op.Unsqueeze(boxes, one), op.Unsqueeze(scores, two), op.Constant(value_ints=[most]), *limits
        )  # (n, 3): image, class, place
        return op.Gather(places, op.Constant(value_int=2), axis=1)

    return suppress
