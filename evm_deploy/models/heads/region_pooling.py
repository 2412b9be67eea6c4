"""Pools what lies under boxes from the levels of a pyramid."""

from collections.abc import Sequence

import torch
from torch import Tensor

from evm_deploy.regions.alignment import align_regions

USUAL_SIDE = 56  # pixels: boxes of twice this side are of the second level
SMALL = 1e-6  # keeps a box without area out of the logarithm of 0


def find_levels(boxes: Tensor, count: int) -> Tensor:
    """Which of a pyramid's first `count` levels each of the boxes (n, 4) is pooled from, (n,): by its area."""
    w, h = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    return ((w * h).sqrt() / USUAL_SIDE + SMALL).log2().floor().clamp(0, count - 1).long()


def pool_regions(levels: Sequence[Tensor], strides: Sequence[int], boxes: Tensor, side: int) -> Tensor:
    """What lies under the boxes (n, 4), each of the level of its size: (n, C, side, side)."""
    chosen = find_levels(boxes, len(levels))
    own = [(chosen == i).nonzero()[:, 0] for i in range(len(levels))]
    parts = [
        align_regions(level, boxes.index_select(0, places), side, side, 1 / stride, 0)
        for level, stride, places in zip(levels, strides, own, strict=True)
    ]
    return torch.cat(parts).index_select(0, _invert_grouping(chosen, len(levels)))


def _invert_grouping(groups: Tensor, count: int) -> Tensor:
    """Where each of n lies once they are put together group by group, in their order within each: (n,)."""
    member = (groups[:, None] == torch.arange(count)).long()  # (n, count)
    sizes = member.sum(0)
    before = sizes.cumsum(0) - sizes
    return (member * (member.cumsum(0) - 1 + before)).sum(1)
