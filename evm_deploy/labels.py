"""Class names from a user's text file."""

from collections.abc import Sequence
from pathlib import Path

from evm_deploy.errors import InputError
from evm_deploy.files import read_text
from evm_deploy.tasks import IOSpec, Task

MAX_BYTES = 1 << 22


def read_labels(path: Path, task: Task, outputs: Sequence[IOSpec]) -> tuple[str, ...]:
    """The names in `path`, a line each, for a model of the task with these outputs.

    Raises InputError: not such a file, no classes, or not one name for each class.
    """
    if isinstance(task.count_classes, str):
        raise InputError(f"{task.title} {task.count_classes}.", "leave --labels out.")
    text = read_text(path, MAX_BYTES, _cannot_use, "utf-8-sig")
    labels = tuple(line.strip() for line in text.splitlines())
    num_classes = task.count_classes(outputs)
    if num_classes is None:  # the outputs do not tell
        num_classes = len(labels)
    if len(labels) != num_classes or not all(labels):
        raise InputError(
            f"{path} has {sum(map(bool, labels))} names on {len(labels)} lines; the model has {num_classes} classes.",
            "give one name a line, in the order of the classes, and no empty line.",
        )
    return labels


def _cannot_use(cause: str) -> InputError:
    return InputError(cause, "name a UTF-8 text file with one class name a line.")
