"""What a mix of integers and floats loses against the float model, on images whose answers may be known."""

import hashlib
import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from evm_deploy.data.orders import find_better_order
from evm_deploy.data.samples import LabelledInput, Samples
from evm_deploy.errors import BundleError, InputError
from evm_deploy.preprocessing import place_image
from evm_deploy.showing.findings import Findings
from evm_deploy.tasks import FindingsMetric, NotAnAnswer, SearchScore, Task
from evm_deploy.tasks.truth import Truth

Run = Callable[[npt.NDArray[Any]], Sequence[npt.NDArray[Any]]]  # the outputs of a model for one input
NO_IMAGES = ("there are no images to search on.", "give a folder with images.")


class Loss(Protocol):
    """What the float model gave for the samples, that mixes are held against."""

    score: str  # what a drop is measured in
    labelled: bool  # whether the answers are known; else the float model's are taken for them
    images: int
    content: bytes  # all that the measurements depend on beside the mix

    def measure(self, run: Run) -> tuple[float, float]:
        """Of a mix: points of the score lost, and how far it is from the float model without regard to answers."""
        ...

    def describe_order(self) -> tuple[str, ...]:
        """What is assumed of the order of the classes, and whether the float model speaks against it."""
        ...


def watch_float(task: Task, samples: Samples, run: Run) -> Loss:
    """Runs the float model on the samples. Raises InputError: nothing can be measured on these images; BundleError."""
    score = task.search_score
    assert not isinstance(score, str)
    return ClassLoss(score, samples, run) if isinstance(score, SearchScore) else FindingsLoss(task, score, samples, run)


class ClassLoss:
    """Of classifiers, by the scores of the classes."""

    def __init__(self, score: SearchScore, samples: Samples, run: Run) -> None:
        self.score = score.name
        self._measures, self._samples = score, samples
        pairs = [(score.keep(run(sample.input)), sample.label) for sample in samples]
        if not pairs:
            raise InputError(*NO_IMAGES)
        self._expected = np.stack([kept for kept, _ in pairs])  # (images, classes)
        labels = np.array([-1 if label is None else label for _, label in pairs], np.int64)
        self._labels = None if (labels < 0).any() else labels
        self.labelled, self.images = self._labels is not None, len(pairs)
        self.content = self._expected.tobytes() + (b"" if self._labels is None else self._labels.tobytes())

    def measure(self, run: Run) -> tuple[float, float]:
        """Points of top-1, and the relative entropy."""
        found = np.stack([self._measures.keep(run(sample.input)) for sample in self._samples])
        drop = self._measures.measure_drop(self._expected, found, self._labels)
        return drop, self._measures.measure_divergence(self._expected, found)

    def describe_order(self) -> tuple[str, ...]:
        """By which classes the float model takes for which."""
        assumed, classes = self._samples.assumed_order, self._expected.shape[1]
        better = None
        if self._labels is not None and self._measures.find_first is not None:
            better = find_better_order(self._labels, self._measures.find_first(self._expected), classes)
        names = self._samples.classes or tuple(f"class {index}" for index in range(classes))
        return (*([assumed] if assumed else []), *([better.describe(names)] if better else []))


class FindingsLoss:
    """Of detectors and segmenters, by their metric; without annotations, against what the float model is sure of."""

    def __init__(self, task: Task, metric: FindingsMetric, samples: Samples, run: Run) -> None:
        self.score = metric.name
        self._task, self._metric, self._samples = task, metric, samples
        self._trusted: list[Truth] = []
        self.labelled, digest, true, own = True, hashlib.sha256(), [], []
        for sample, findings in self._find(run):
            self._trusted.append(trusted := metric.trust(findings))
            self.labelled &= sample.truth is not None
            digest.update(pickle.dumps((trusted, sample.truth)))
            own.append(metric.keep(findings, trusted))
            if sample.truth is not None:
                true.append(metric.keep(findings, sample.truth))
        self.images = len(self._trusted)
        if not self.images:
            raise InputError(*NO_IMAGES)
        self._share, _ = self._compute_shares(true, own)
        self.content = digest.digest() + repr(self._share).encode()

    def measure(self, run: Run) -> tuple[float, float]:
        """Points of the metric's main figure, and those of agreement with the float model."""
        share, agreement = self._measure_shares(run)
        return 100 * (self._share - share), 1 - agreement

    def describe_order(self) -> tuple[str, ...]:
        """What the annotations leave open."""
        return (self._samples.assumed_order,) if self._samples.assumed_order else ()

    def _measure_shares(self, run: Run) -> tuple[float, float]:
        """The main figure by what is true, and by what the float model is sure of."""
        true, own = [], []
        for (sample, findings), trusted in zip(self._find(run), self._trusted, strict=True):
            own.append(self._metric.keep(findings, trusted))
            if self.labelled and sample.truth is not None:
                true.append(self._metric.keep(findings, sample.truth))
        return self._compute_shares(true, own)

    def _compute_shares(self, true: Sequence[Any], own: Sequence[Any]) -> tuple[float, float]:
        agreement = self._compute_share(own)
        return (self._compute_share(true) if self.labelled else agreement), agreement

    def _compute_share(self, kept: Sequence[Any]) -> float:
        share = next(iter(self._metric.measure(kept).figures.values()))
        if share is None:
            what = f"nothing is there, or found with certainty, in the images that {self.score} could be measured by."
            raise InputError(what, "search on images of what the model finds.")
        return share

    def _find(self, run: Run) -> Iterator[tuple[LabelledInput, Findings]]:
        assert self._task.locate is not None
        for sample in self._samples:
            placement = place_image(*sample.size, self._samples.preprocessing)
            try:
                yield sample, self._task.locate(run(sample.input), placement, None)
            except NotAnAnswer as problem:
                raise BundleError(f"the model {problem} for {sample.name}.", "verify the float bundle.") from None
