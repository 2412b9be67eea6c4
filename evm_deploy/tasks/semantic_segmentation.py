"""Semantic segmentation: the class of every pixel."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from evm_deploy.tasks.features import FEATURES
from evm_deploy.tasks.io_spec import IOSpec, Shape
from evm_deploy.tasks.pixel_accuracy import PixelAccuracy, keep_pixels, trust_pixels
from evm_deploy.tasks.task import GoldenLimits
from evm_deploy.tasks.truth import LABEL_MAP, FindingsMetric

if TYPE_CHECKING:
    from evm_deploy.showing.findings import Findings, Placement
    from evm_deploy.tasks.agreement import Comparison
    from evm_deploy.tasks.task import Array

CLASSES = IOSpec("labels", ("batch", "height", "width"), "int32", "NHW", "classes of pixels")
# Pixels that may be of another class, for each 1e-4 of the tolerance: where two logits are equal but for rounding.
MOST_DIFFERING = 0.005


def _are_outputs(outputs: Sequence[IOSpec]) -> bool:
    return [spec.meaning for spec in outputs] == [CLASSES.meaning] and len(outputs[0].shape) == 3


def _describe_outputs(
    shapes: Sequence[Shape], names: Sequence[str] = (), *, softmax: bool = False
) -> tuple[IOSpec, ...]:
    (shape,) = shapes
    return (dataclasses.replace(CLASSES, name=names[0] if names else CLASSES.name, shape=shape),)


def _compare(
    found: Sequence[Array], expected: Sequence[Array], outputs: Sequence[IOSpec], tolerance: float
) -> list[Comparison]:
    """The share of pixels of another class."""
    from evm_deploy.tasks.agreement import Agreement, Comparison, check_shapes

    check_shapes(found, expected, outputs)
    differing = found[0] != expected[0]
    share = float(differing.mean())
    agreement = Agreement(float(differing.sum()), share, 1 - share, float("inf"), 1 - share)
    return [Comparison(outputs[0].name, agreement, share <= _find_most_differing(tolerance))]


def _find_most_differing(tolerance: float) -> float:
    return MOST_DIFFERING * tolerance / 1e-4


def _locate(found: Sequence[Array], placement: Placement, labels: Sequence[str] | None) -> Findings:
    from evm_deploy.showing.locating import locate_classes

    return locate_classes(found, placement, labels)


METRIC = FindingsMetric("mIoU", LABEL_MAP, False, lambda: None, keep_pixels, PixelAccuracy, trust_pixels)
SEMANTIC_SEGMENTATION = dataclasses.replace(
    FEATURES,
    name="semantic_segmentation",
    title="a semantic segmenter",
    are_outputs=_are_outputs,
    recognises=lambda shapes: False,
    describe_outputs=_describe_outputs,
    count_classes=lambda outputs: None,
    compare=_compare,
    limit_golden=lambda tolerance: GoldenLimits(_find_most_differing(tolerance)),
    locate=_locate,
    metric=METRIC,
    search_score=METRIC,
)
