"""From scores and shifts of anchors to boxes: what detectors have in common after their networks."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true

IMPOSSIBLE = -1.0  # a score that no box has


@dataclass(frozen=True)
class DetectionConfig:
    """What becomes of scores and boxes. Defaults are those of mmdetection."""

    least_score: float = 0.05
    most_overlap: float = 0.5  # of two boxes of a class
    most_of_level: int = 1000  # before suppression
    most: int = 100


class Detections(NamedTuple):
    """What is in one image, best first: boxes (n, 4) as corners in pixels, scores (n,), labels (n,) int64 from 0."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor


class ImageSize(NamedTuple):
    """Of one image, as (width, height) in float32: `input` without padding, `scale` from the original to the input."""

    input: Tensor
    scale: Tensor


def find_best(scores: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The best scores (most,) of (n,), and their places; where n is less, IMPOSSIBLE at place 0."""
    if not statically_known_true(scores.shape[0] >= most):
        scores = torch.cat([scores, scores.new_full((most,), IMPOSSIBLE)])
    best, places = scores.topk(most)
    return best, torch.where(best > IMPOSSIBLE, places, places.new_zeros(()))


def flatten_map(x: Tensor, values: int) -> Tensor:
    """A map of one image, (1, A * values, h, w), as (h * w * A, values): the order of `make_anchors`."""
    return x[0].permute(1, 2, 0).reshape(-1, values)
