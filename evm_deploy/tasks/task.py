"""What a task is: everything that depends on what the outputs of a model mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from evm_deploy.tasks.io_spec import IOSpec, Shape

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

    from evm_deploy.showing.findings import Findings, Placement
    from evm_deploy.tasks.agreement import Comparison
    from evm_deploy.tasks.truth import FindingsMetric

    Array = npt.NDArray[Any]
    Ints = npt.NDArray[np.int64]

Shown = tuple[tuple[str, float], ...]  # what is found in an image, and how likely it is, best first


@dataclass(frozen=True)
class Metric:
    """How right the classes are that a model names, on images of which the answer is known."""

    name: str  # as reports call it
    # The labels of the samples (None where one has none), the names of the data's classes, the model's number of
    # classes and their names. Raises InputError where these labels are not of these classes.
    check_labels: Callable[[Sequence[int | None], Sequence[str] | None, int, Sequence[str] | None], None]
    # The outputs for one image, the number of classes, and how many (k) of the best to give: (k,), best first.
    # Raises NotAnAnswer.
    find_best: Callable[[Sequence[Array], int, int], Ints]


@dataclass(frozen=True)
class SearchScore:
    """What a mix of integers and floats loses, on images with or without labels."""

    name: str  # with labels; as in "points of top-1"
    keep: Callable[[Sequence[Array]], Array]  # of the outputs for one image, what the two below compare
    # Of the float model and another, for n images (n, ...), and the labels (n,), where all are known: points lost.
    measure_drop: Callable[[Array, Array, Ints | None], float]
    measure_divergence: Callable[[Array, Array], float]  # the same without labels: what tells close mixes apart
    find_first: Callable[[Array], Ints] | None = None  # the first class of each image (n,), where labels are classes


class DescribeOutputs(Protocol):
    """Gives the outputs of a model, as its manifest has them, from their shapes in order.

    `names` are those of the outputs, where others are wanted than the task's own. With `softmax`, logits are made
    probabilities; a task without `probabilities` pays no attention to it.
    """

    def __call__(
        self, shapes: Sequence[Shape], names: Sequence[str] = (), *, softmax: bool = False
    ) -> tuple[IOSpec, ...]: ...


class Compare(Protocol):
    """Compares the outputs for one input with those that are expected, each as the manifest's `outputs` are ordered.

    Raises ShapeDiffers.
    """

    def __call__(
        self, found: Sequence[Array], expected: Sequence[Array], outputs: Sequence[IOSpec], tolerance: float
    ) -> list[Comparison]: ...


class Show(Protocol):
    """Gives what a person is told of the first image of a batch: the best `count` by `labels`, the classes' names.

    Raises NotAnAnswer.
    """

    def __call__(
        self, found: Sequence[Array], outputs: Sequence[IOSpec], labels: Sequence[str] | None, count: int
    ) -> Shown: ...


class Locate(Protocol):
    """Gives what was found in one image, in its pixels, by the outputs for it: `labels` are the classes' names.

    Raises NotAnAnswer.
    """

    def __call__(self, found: Sequence[Array], placement: Placement, labels: Sequence[str] | None) -> Findings: ...


class GoldenLimits(NamedTuple):
    """How far a package's loader may be from the golden outputs, and what of two detections makes them one."""

    most: float  # of numbers, by the largest one; of detections, of the scores without a match; of pixels, in class
    overlap: float = 1.0


PostProcess = Callable[["tuple[Tensor, ...]"], "tuple[Tensor, ...]"]


@dataclass(frozen=True)
class Task:
    """A row of the table of tasks.

    Where a task lacks something, the row says why instead, as a sentence goes on after `title`: "has no classes".
    """

    name: str  # in manifests and options
    title: str  # what a model of it is: "a classifier"
    are_outputs: Callable[[Sequence[IOSpec]], bool]  # whether a model of the task can have these
    recognises: Callable[[Sequence[Shape]], bool]  # whether float outputs of these shapes are most likely its
    describe_outputs: DescribeOutputs
    empty_outputs: bool  # an output without values is an answer
    probabilities: IOSpec | str  # the output that softmax makes
    count_classes: Callable[[Sequence[IOSpec]], int | None] | str  # None: the outputs do not tell
    post_process: Callable[[Sequence[IOSpec]], PostProcess | None]  # what makes these of the network's own outputs
    given_by_label: Callable[[IOSpec], bool]  # Core ML may give this output as a dictionary of labels
    compare: Compare
    limit_golden: Callable[[float], GoldenLimits]  # by the tolerance of the bundle
    show: Show | str
    locate: Locate | None  # what is shown in the pixels of an image, in the place of `show`
    metric: Metric | FindingsMetric | str
    search_score: SearchScore | FindingsMetric | str

    def check_outputs(self, outputs: Sequence[IOSpec]) -> None:
        """Raises ValueError unless a model of this task can have these outputs."""
        if not self.are_outputs(outputs):
            meanings = ", ".join(spec.meaning for spec in outputs)
            raise ValueError(f"outputs ({meanings}) are not those of {self.name}")

    def classes(self, outputs: Sequence[IOSpec]) -> int | None:
        """How many classes a model with these outputs has; None where it has none or does not say."""
        return None if isinstance(self.count_classes, str) else self.count_classes(outputs)
