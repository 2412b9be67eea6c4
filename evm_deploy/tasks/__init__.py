"""What a model is for, a module a task. A row says all that depends on the meaning of the outputs; nobody else asks."""

from __future__ import annotations

from collections.abc import Sequence

from evm_deploy.errors import BundleError, OptionError
from evm_deploy.showing.answers import NotAnAnswer
from evm_deploy.tasks.classification import CLASSIFICATION
from evm_deploy.tasks.detection import DETECTION, INSTANCE_SEGMENTATION
from evm_deploy.tasks.features import FEATURES
from evm_deploy.tasks.io_spec import IOSpec, Shape, describe_image
from evm_deploy.tasks.semantic_segmentation import SEMANTIC_SEGMENTATION
from evm_deploy.tasks.task import Metric, PostProcess, SearchScore, Task
from evm_deploy.tasks.truth import FindingsMetric

__all__ = [
    "CLASSIFICATION",
    "DETECTION",
    "FEATURES",
    "INSTANCE_SEGMENTATION",
    "SEMANTIC_SEGMENTATION",
    "TASKS",
    "FindingsMetric",
    "IOSpec",
    "Metric",
    "NotAnAnswer",
    "PostProcess",
    "SearchScore",
    "Shape",
    "Task",
    "describe_image",
    "find_task",
    "infer_task",
]

TASKS = {
    task.name: task for task in (CLASSIFICATION, FEATURES, DETECTION, INSTANCE_SEGMENTATION, SEMANTIC_SEGMENTATION)
}


def find_task(name: str) -> Task:
    """The task that a manifest names. Raises BundleError for one that is not known here."""
    if name not in TASKS:
        raise BundleError(f"task {name!r} is not known here.", "use a newer evm-deploy.")
    return TASKS[name]


def infer_task(shapes: Sequence[Shape]) -> Task:
    """The task that float outputs of these shapes are most likely for: the first row that recognises them.

    Raises OptionError where no row does.
    """
    for task in TASKS.values():
        if task.recognises(shapes):
            return task
    found = " and ".join(f"({', '.join(map(str, shape))})" for shape in shapes) or "no tensor"
    raise OptionError(
        f"the task cannot be told from the model's outputs, {found}.",
        f"name it with the option task: {' or '.join(TASKS)}.",
    )
