"""Matches what two detectors found in one image: which detections are the same thing.

A copy of this file lies in packages for Linux: it imports NumPy alone.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
SAME_BOX = 0.99  # intersection over union from which on two boxes are the same
# Of all detections, for each 1e-4 of the tolerance, and at most the second: rounding decides between boxes of equal
# scores, or overlaps at the limit.
MOST_MISSED, MOST_MISSED_AT_ALL = 0.02, 0.5
# From this tolerance on, that of 8 bits: boxes lie over each other as average precision asks at least, and detections
# count by their scores, for those of hardly any score come and go; the tolerance is the most that may have no match.
COARSE, SAME_THING = 0.1, 0.5


class Limits(NamedTuple):
    """The overlap that makes two detections one thing, and the share of them that may have no match."""

    overlap: float
    missed: float
    by_score: bool  # whether detections count by their scores


def choose_limits(tolerance: float) -> Limits:
    """The limits of outputs that may differ by this, relatively."""
    if tolerance >= COARSE:
        return Limits(SAME_THING, tolerance, True)
    return Limits(SAME_BOX, min(MOST_MISSED * tolerance / 1e-4, MOST_MISSED_AT_ALL), False)


class Matches(NamedTuple):
    """The places of the detections that are the same, (m,) each; and how many have none, of both."""

    found: npt.NDArray[np.int64]
    expected: npt.NDArray[np.int64]
    missed: int


def match_boxes(found: tuple[Array, Array], expected: tuple[Array, Array], least: float = SAME_BOX) -> Matches:
    """Pairs detections, (boxes (n, 4) as corners, labels (n,)) each, of one label whose boxes lie over each other.

    Each is in one pair at most; the expected ones, best first, choose in their order.
    """
    overlaps = measure_overlaps(found[0], expected[0])
    overlaps[found[1][:, None] != expected[1][None]] = 0
    pairs = []
    for i in range(len(expected[0])):
        best = int(overlaps[:, i].argmax()) if len(overlaps) else 0
        if len(overlaps) and overlaps[best, i] > least:
            pairs.append((best, i))
            overlaps[best] = 0
    places = np.array(pairs, np.int64).reshape(-1, 2)
    return Matches(places[:, 0], places[:, 1], len(found[0]) + len(expected[0]) - 2 * len(pairs))


def measure_overlaps(found: Array, expected: Array) -> npt.NDArray[np.float64]:
    """Intersection over union of boxes (n, 4) with boxes (m, 4), (n, m); 0 where neither has an area."""
    one, other = found.astype(np.float64)[:, None], expected.astype(np.float64)[None]
    sides = np.minimum(one[..., 2:], other[..., 2:]) - np.maximum(one[..., :2], other[..., :2])
    common = sides.clip(0).prod(-1)
    whole = _measure_areas(one) + _measure_areas(other) - common
    return np.asarray(common / np.where(whole > 0, whole, 1))


def _measure_areas(boxes: Array) -> Array:
    areas: Array = (boxes[..., 2:] - boxes[..., :2]).prod(-1)
    return areas
