"""What a task is: everything that depends on what the outputs of a model mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from evm_deploy.tasks.io_spec import IOSpec, Shape


class DescribeOutputs(Protocol):
    """Gives the outputs of a model, as its manifest has them, from their shapes in order.

    `names` are those of the outputs, where others are wanted than the task's own. `softmax`: logits are turned into
    probabilities; asked only of a task that has some.
    """

    def __call__(
        self, shapes: Sequence[Shape], names: Sequence[str] = (), *, softmax: bool = False
    ) -> tuple[IOSpec, ...]: ...


@dataclass(frozen=True)
class Task:
    """A row of the table of tasks.

    Where a task lacks something, its place holds the sentence, without a full stop, that an error says of it.
    """

    name: str  # in manifests and options
    title: str  # what a model of it is, as in "a classifier"
    are_outputs: Callable[[Sequence[IOSpec]], bool]  # whether these can be the outputs of a model of the task
    recognises: Callable[[Sequence[Shape]], bool]  # whether float outputs of these shapes are most likely its
    describe_outputs: DescribeOutputs
    count_classes: Callable[[Sequence[IOSpec]], int | None] | str  # None: the outputs do not tell
    no_softmax: str | None  # why probabilities cannot be made of its outputs; None: they can

    def check_outputs(self, outputs: Sequence[IOSpec]) -> None:
        """Raises ValueError unless these can be the outputs of a model of this task."""
        if not self.are_outputs(outputs):
            meanings = ", ".join(spec.meaning for spec in outputs)
            raise ValueError(f"outputs ({meanings}) are not those of {self.name}")
