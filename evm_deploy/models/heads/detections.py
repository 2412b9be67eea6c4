"""From scores and shifts of anchors to boxes: what detectors have in common after their networks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from evm_deploy.models.heads.settings import ChosenNumber

IMPOSSIBLE = -1.0  # a score that no box has
MOST_BOXES = 10_000  # of any number of boxes that a configuration may ask for


@dataclass(frozen=True)
class DetectionConfig:
    """What becomes of scores and boxes. Defaults are those of mmdetection."""

    least_score: float = 0.05
    most_overlap: float = 0.5  # of two boxes of a class
    most_of_level: int = 1000  # before suppression
    most: int = 100


def list_chosen(path: str, field: str = "detection", *, scores: bool = True) -> list[ChosenNumber]:
    """Where a `test_cfg` at the path has what goes into the configuration's `field`."""
    least = [ChosenNumber(f"{path}.score_thr", f"{field}.least_score", 0.0, 1.0)] if scores else []
    return [
        *least,
        ChosenNumber(f"{path}.nms.iou_threshold", f"{field}.most_overlap", 0.0, 1.0),
        ChosenNumber(f"{path}.max_per_img", f"{field}.most", 1, MOST_BOXES),
    ]


def list_fixed(path: str) -> dict[str, Any]:
    """What a `test_cfg` at the path can have alone: plain suppression of the boxes of a class."""
    return {f"{path}.nms.type": "nms", f"{path}.nms.class_agnostic": False, f"{path}.min_bbox_size": 0}


class Detections(NamedTuple):
    """What is in one image, best first: boxes (n, 4) as corners in pixels, scores (n,), labels (n,) int64 from 0."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor


class Candidates(NamedTuple):
    """The best of each level, those of the finest first, and what the levels say of all their anchors.

    scores: (n,); places: (n,) in the scores of all levels; levels: (n,); anchors, shifts: (all anchors, 4).
    """

    scores: Tensor
    places: Tensor
    levels: Tensor
    anchors: Tensor
    shifts: Tensor


def find_candidates(
    anchors: Sequence[Tensor], logits: Sequence[Tensor], shifts: Sequence[Tensor], most: int
) -> Candidates:
    """The `most` best scores of each level, by its anchors (h * w * A, 4) and its maps of one image.

    logits: (1, A * classes, h, w); shifts: (1, A * 4, h, w).
    """
    scores, places = list[Tensor](), list[Tensor]()
    before = 0
    for level in logits:
        flat = level.permute(0, 2, 3, 1).reshape(-1).sigmoid()
        best, where = flat.topk(torch.sym_min(flat.shape[0], most))
        scores.append(best)
        places.append(where + before)
        before += flat.shape[0]
    flat_shifts = [level.permute(0, 2, 3, 1).reshape(-1, 4) for level in shifts]
    levels = torch.cat([torch.full_like(where, i) for i, where in enumerate(places)])
    return Candidates(torch.cat(scores), torch.cat(places), levels, torch.cat(list(anchors)), torch.cat(flat_shifts))
