"""Features: the maps of a backbone, for the layers of others that follow it. Bundles call the task "backbone"."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from evm_deploy.tasks.io_spec import IOSpec, Shape
from evm_deploy.tasks.task import GoldenLimits, Task

if TYPE_CHECKING:
    from evm_deploy.tasks.agreement import Comparison
    from evm_deploy.tasks.task import Array

MAP = IOSpec("feature", ("batch", "channels", "height", "width"), "float32", "NCHW", "features")
NO_CLASSES = "gives feature maps, not classes"


def _are_outputs(outputs: Sequence[IOSpec]) -> bool:
    return {spec.meaning for spec in outputs} == {MAP.meaning}


def _recognises(shapes: Sequence[Shape]) -> bool:
    return {len(shape) for shape in shapes} == {4}


def _describe_outputs(
    shapes: Sequence[Shape], names: Sequence[str] = (), *, softmax: bool = False
) -> tuple[IOSpec, ...]:
    names = names or [f"{MAP.name}{index}" for index in range(len(shapes))]
    return tuple(dataclasses.replace(MAP, name=name, shape=shape) for name, shape in zip(names, shapes, strict=True))


def _compare(
    found: Sequence[Array], expected: Sequence[Array], outputs: Sequence[IOSpec], tolerance: float
) -> list[Comparison]:
    """Each map by its values."""
    from evm_deploy.tasks.agreement import Comparison, check_shapes, compare

    check_shapes(found, expected, outputs)
    agreements = [compare(one, other, scores=False) for one, other in zip(found, expected, strict=True)]
    return [
        Comparison(spec.name, agreement, agreement.relative <= tolerance)
        for spec, agreement in zip(outputs, agreements, strict=True)
    ]


FEATURES = Task(
    name="backbone",
    title="a backbone",
    are_outputs=_are_outputs,
    recognises=_recognises,
    describe_outputs=_describe_outputs,
    empty_outputs=False,
    probabilities="has no scores to make probabilities of",
    count_classes="has no classes to label",
    post_process=lambda outputs: None,
    given_by_label=lambda spec: False,
    compare=_compare,
    limit_golden=GoldenLimits,
    show=NO_CLASSES,
    locate=None,
    metric=NO_CLASSES,
    search_score="has no classes to search by",
)
