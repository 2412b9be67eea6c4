"""Detection and instance segmentation: boxes with a score and a class, the best first, of instances also a mask each.

The functions import NumPy where they run: the command line reads the table of tasks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from evm_deploy.tasks.average_precision import (
    keep_things,
    measure_boxes,
    measure_masks,
    prepare,
    trust_things,
)
from evm_deploy.tasks.features import FEATURES
from evm_deploy.tasks.io_spec import IOSpec, Shape
from evm_deploy.tasks.task import GoldenLimits
from evm_deploy.tasks.truth import THINGS, FindingsMetric

if TYPE_CHECKING:
    from evm_deploy.showing.findings import Findings, Placement
    from evm_deploy.tasks.agreement import Comparison
    from evm_deploy.tasks.task import Array

FOUND = "found"  # the name of the length that is the number of detections
BOXES = IOSpec("boxes", (FOUND, 4), "float32", "NC", "boxes")  # corners x0, y0, x1, y1 in pixels of the input
SCORES = IOSpec("scores", (FOUND,), "float32", "N", "scores", (0.0, 1.0))
LABELS = IOSpec("labels", (FOUND,), "int64", "N", "labels")  # indices of classes, from 0
# Probabilities over the box; or, where they have the size of the input, its pixels that are covered, 0 or 1.
MASKS = IOSpec("masks", (FOUND, "height", "width"), "float32", "NHW", "masks", (0.0, 1.0))
DETECTIONS = (BOXES, SCORES, LABELS)
INSTANCES = (*DETECTIONS, MASKS)
SAME_MASK = 0.99  # intersection over union of masks, all of an image together; less by the tolerance
MOST_MOVED = 0.1  # pixels, of a box whose pair is found, for each 1e-4 of the tolerance


def _are_outputs(outputs: Sequence[IOSpec], specs: Sequence[IOSpec]) -> bool:
    return [(spec.meaning, len(spec.shape)) for spec in outputs] == [(s.meaning, len(s.shape)) for s in specs]


def _describe_outputs(shapes: Sequence[Shape], names: Sequence[str], specs: Sequence[IOSpec]) -> tuple[IOSpec, ...]:
    names = names or [spec.name for spec in specs]
    return tuple(
        dataclasses.replace(spec, name=name, shape=shape, dtype="uint8" if _covers_image(spec, shape) else spec.dtype)
        for spec, name, shape in zip(specs, names, shapes, strict=True)
    )


def _covers_image(spec: IOSpec, shape: Shape) -> bool:
    return spec.meaning == MASKS.meaning and all(isinstance(side, str) for side in shape)


def _compare(
    found: Sequence[Array], expected: Sequence[Array], outputs: Sequence[IOSpec], tolerance: float
) -> list[Comparison]:
    """The boxes, scores and masks of what both found; and the share of detections that one of the two alone has, in
    8 bits the share of their scores."""
    from evm_deploy.tasks.agreement import Agreement, Comparison, compare
    from evm_deploy.tasks.matching import choose_limits, match_boxes

    least, most, coarse = choose_limits(tolerance)
    matches = match_boxes((found[0], found[2]), (expected[0], expected[2]), least)
    total, missed_of_all = len(found[0]) + len(expected[0]), float(matches.missed)
    if coarse:
        total = found[1].sum() + expected[1].sum()
        missed_of_all = total - found[1][matches.found].sum() - expected[1][matches.expected].sum()
    share = float(missed_of_all / total) if total else 0.0
    missed = Agreement(float(matches.missed), share, 1 - share, float("inf") if not share else 0.0, 1 - share)
    rounded = tolerance / 1e-4
    rows = [Comparison(outputs[2].name, missed, share <= most)]
    if not len(matches.found):
        return rows
    pairs = [(one[matches.found], other[matches.expected]) for one, other in zip(found, expected, strict=True)]
    boxes, scores = (compare(*pairs[i], scores=False) for i in (0, 1))
    rows.insert(0, Comparison(outputs[0].name, boxes, coarse or boxes.max_abs <= MOST_MOVED * rounded))
    rows.insert(1, Comparison(outputs[1].name, scores, scores.relative <= tolerance))
    if len(pairs) > 3:
        rows.append(_compare_masks(outputs[3].name, *pairs[3], least=1 - (1 - SAME_MASK) * rounded))
    return rows


def _limit_golden(tolerance: float) -> GoldenLimits:
    from evm_deploy.tasks.matching import choose_limits

    limits = choose_limits(tolerance)
    return GoldenLimits(limits.missed, limits.overlap)


def _compare_masks(name: str, found: Array, expected: Array, least: float) -> Comparison:
    """By the cells that are covered."""
    from evm_deploy.showing.masks import LEAST
    from evm_deploy.tasks.agreement import Agreement, Comparison

    one, other = found >= LEAST, expected >= LEAST
    either = int((one | other).sum())
    wrong = int((one ^ other).sum())
    share = wrong / either if either else 0.0
    most = abs(found.astype("float64") - expected).max(initial=0.0)
    return Comparison(name, Agreement(float(most), share, 1 - share, float("inf"), None), 1 - share >= least)


def _locate(found: Sequence[Array], placement: Placement, labels: Sequence[str] | None) -> Findings:
    from evm_deploy.showing.locating import locate_things

    return locate_things(found, placement, labels)


METRIC = FindingsMetric("AP", THINGS, False, prepare, keep_things, measure_boxes, trust_things)
DETECTION = dataclasses.replace(
    FEATURES,
    name="detection",
    title="a detector",
    are_outputs=lambda outputs: _are_outputs(outputs, DETECTIONS),
    recognises=lambda shapes: False,
    describe_outputs=lambda shapes, names=(), softmax=False: _describe_outputs(shapes, names, DETECTIONS),
    empty_outputs=True,
    count_classes=lambda outputs: None,
    compare=_compare,
    limit_golden=_limit_golden,
    locate=_locate,
    metric=METRIC,
    search_score=METRIC,
)
MASK_METRIC = dataclasses.replace(METRIC, name="mask AP", masks=True, measure=measure_masks)
INSTANCE_SEGMENTATION = dataclasses.replace(
    DETECTION,
    name="instance_segmentation",
    title="an instance segmenter",
    are_outputs=lambda outputs: _are_outputs(outputs, INSTANCES),
    describe_outputs=lambda shapes, names=(), softmax=False: _describe_outputs(shapes, names, INSTANCES),
    metric=MASK_METRIC,
    search_score=MASK_METRIC,
)
