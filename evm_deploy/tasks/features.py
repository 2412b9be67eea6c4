"""Features: the maps of a backbone, for the layers of others that follow it. Bundles call the task "backbone"."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from evm_deploy.tasks.io_spec import IOSpec, Shape
from evm_deploy.tasks.task import Task

MAP = IOSpec("feature", ("batch", "channels", "height", "width"), "float32", "NCHW", "features")


def _are_outputs(outputs: Sequence[IOSpec]) -> bool:
    return {spec.meaning for spec in outputs} == {MAP.meaning}


def _recognises(shapes: Sequence[Shape]) -> bool:
    return {len(shape) for shape in shapes} == {4}


def _describe_outputs(
    shapes: Sequence[Shape], names: Sequence[str] = (), *, softmax: bool = False
) -> tuple[IOSpec, ...]:
    names = names or [f"{MAP.name}{index}" for index in range(len(shapes))]
    return tuple(dataclasses.replace(MAP, name=name, shape=shape) for name, shape in zip(names, shapes, strict=True))


FEATURES = Task(
    name="backbone",
    title="a backbone",
    are_outputs=_are_outputs,
    recognises=_recognises,
    describe_outputs=_describe_outputs,
    count_classes="a backbone has no classes to label",
    no_softmax="a backbone has no scores to make probabilities of",
)
