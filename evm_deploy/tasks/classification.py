"""Classification: one output with a score for each class, logits or the probabilities made of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from evm_deploy.tasks.io_spec import IOSpec, Shape
from evm_deploy.tasks.task import Task

LOGITS = IOSpec("logits", ("batch", "classes"), "float32", "NC", "logits")
PROBABILITIES = IOSpec("probabilities", ("batch", "classes"), "float32", "NC", "probabilities", (0.0, 1.0))


def _are_outputs(outputs: Sequence[IOSpec]) -> bool:
    meanings = [spec.meaning for spec in outputs]
    return meanings in ([LOGITS.meaning], [PROBABILITIES.meaning]) and len(outputs[0].shape) == 2


def _recognises(shapes: Sequence[Shape]) -> bool:
    return [len(shape) for shape in shapes] == [2]


def _describe_outputs(shapes: Sequence[Shape], names: Sequence[str] = (), *, softmax: bool = False) -> tuple[IOSpec]:
    (shape,) = shapes
    kind = PROBABILITIES if softmax else LOGITS
    return (dataclasses.replace(kind, name=names[0] if names else kind.name, shape=shape),)


def _count_classes(outputs: Sequence[IOSpec]) -> int | None:
    classes = outputs[0].shape[-1]
    return classes if isinstance(classes, int) else None


CLASSIFICATION = Task(
    name="classification",
    title="a classifier",
    are_outputs=_are_outputs,
    recognises=_recognises,
    describe_outputs=_describe_outputs,
    count_classes=_count_classes,
    no_softmax=None,
)
