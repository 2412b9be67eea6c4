"""Makes the report from the answers: the accuracy of each contender with its confidence, and its latency."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evm_deploy.data.orders import ClassOrder, find_better_order
from evm_deploy.data.samples import Samples, describe_left_out
from evm_deploy.errors import InputError
from evm_deploy.evaluation.contenders import ContenderGroup
from evm_deploy.evaluation.evaluate_options import EvaluateOptions
from evm_deploy.evaluation.figures import Figure, Move, measure_figures
from evm_deploy.evaluation.latency import Latency
from evm_deploy.evaluation.metrics import (
    Bools,
    Change,
    Ints,
    Share,
    count_confusion,
    measure_change,
    measure_classes,
    measure_share,
)
from evm_deploy.evaluation.running import TOP, UNKNOWN, Answers
from evm_deploy.runtimes import TORCH
from evm_deploy.tasks import FindingsMetric


@dataclass(frozen=True)
class EvaluationRow:
    """One contender. None is what cannot be measured: top-1, top-5, change and classes without labels; agreement and
    change without a float model; top-5 with five classes or fewer. Of a detector or segmenter `figures`, the main one
    first, and `moved`, stand in the place of shares of images.
    """

    bundle: str
    runtime: str
    precision: str
    megabytes: float
    top1: Share | None
    top5: Share | None
    agreement: Share | None  # share of images with the same first class as the reference
    change: Change | None  # of top-1, against the reference
    latency: Latency | None
    per_class: tuple[float | None, ...] | None
    confusion: Ints | None = dataclasses.field(compare=False)  # (classes, classes): true, taken for
    better_order: ClassOrder | None = None  # of the classes; None: the one that was taken fits
    figures: tuple[Figure, ...] = ()
    moved: Move | None = None  # of the main figure, against the reference
    images_by_class: Mapping[int, int] = dataclasses.field(default_factory=dict)

    @property
    def main(self) -> tuple[str, float] | None:
        """The figure that has to be above a floor: its name and value."""
        if self.top1 is not None:
            return "top-1", self.top1.value
        first = next(iter(self.figures), None)
        return None if first is None or first.value is None else (first.name, first.value)

    @property
    def lost(self) -> float | None:
        """Points of it lost against the reference."""
        change = self.change or self.moved
        return None if change is None else -100 * change.value

    @property
    def title(self) -> str:
        """A name that no other row has."""
        return self.bundle if self.runtime == TORCH else f"{self.bundle} on {self.runtime}"


@dataclass(frozen=True)
class EvaluationReport:
    """Every contender on the same images. `failures` are the bundles below the floor, or that lost too much."""

    rows: tuple[EvaluationRow, ...]
    reference: str | None  # which row is the float model
    images: int
    labelled: int  # how many of these have labels; top-1 and what depends on it use only these
    data: Mapping[str, Any]  # what was read: its kind, its sha256, the names of images that could not be read
    classes: tuple[str, ...]
    class_images: tuple[int, ...]  # of each class
    conditions: Mapping[str, Any]  # of the latency
    notes: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    assumed_order: str | None = None  # of the classes, where neither the data nor labels say it

    @property
    def passed(self) -> bool:
        """Whether every bundle reaches the requested floor and stays within the requested drop."""
        return not self.failures

    def describe_order(self) -> tuple[str, ...]:
        """What is assumed of the order of the classes, and which rows speak against it."""
        found = [f"{row.title}: {row.better_order.describe(self.classes)}" for row in self.rows if row.better_order]
        return (*([self.assumed_order] if self.assumed_order else []), *found)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values; of the confusion matrices only what is not zero, [true, taken for, images]."""
        plain = dataclasses.asdict(dataclasses.replace(self, rows=(), conditions={}, data={}))
        rows = [dataclasses.asdict(row) | {"confusion": list_nonzero(row.confusion)} for row in self.rows]
        return plain | {
            "rows": rows,
            "conditions": dict(self.conditions),
            "data": dict(self.data),
            "passed": self.passed,
        }


def list_nonzero(matrix: Ints | None) -> list[list[int]] | None:
    """[row, column, count] of each count that is not zero."""
    return None if matrix is None else [[*map(int, at), int(matrix[tuple(at)])] for at in np.argwhere(matrix)]


def build_report(
    field: ContenderGroup,
    answers: Answers,
    latencies: Sequence[Latency | None],
    samples: Samples,
    options: EvaluateOptions,
    conditions: Mapping[str, Any],
) -> EvaluationReport:
    """samples: after reading; its classes count where the bundles have no labels. Raises InputError without images."""
    if not len(answers.labels):
        raise InputError("no image could be read.", "evaluate on images that are intact.")
    labelled, data = answers.labels != UNKNOWN, samples.record()
    rows = tuple(_make_row(index, field, answers, labelled, latencies[index]) for index in range(len(field.contenders)))
    classes = tuple(field.labels or samples.classes or ())
    count = max(field.classes, *(len(row.per_class or ()) for row in rows))
    classes += tuple(f"class {index}" for index in range(len(classes), count))
    counts = np.bincount(answers.labels[labelled], minlength=count)
    for index, images in rows[0].images_by_class.items():
        counts[index] = images
    report = EvaluationReport(
        rows,
        None if field.reference is None else rows[field.reference].title,
        images=len(answers.labels),
        labelled=len(answers.kept) or int(labelled.sum()),
        data=data,
        classes=classes,
        class_images=tuple(map(int, counts)),
        conditions=conditions,
        notes=(*field.notes, *_collect_remarks(answers, labelled | bool(answers.kept), data)),
        failures=tuple(failure for row in rows for failure in _find_failures(row, options)),
        assumed_order=samples.assumed_order,
    )
    return dataclasses.replace(report, notes=(*report.describe_order(), *report.notes))


def _make_row(
    index: int, field: ContenderGroup, answers: Answers, labelled: Bools, latency: Latency | None
) -> EvaluationRow:
    one, top = field.contenders[index], answers.top[:, index]  # (n, k)
    if answers.kept:
        return _make_found_row(index, field, answers, latency)
    labels, known = answers.labels[labelled], bool(labelled.any())
    right = top[labelled] == labels[:, None]
    matrix = count_confusion(labels, top[labelled, 0], field.classes) if known else None
    agreement = difference = None
    if field.reference is not None and field.reference != index:
        other = answers.top[:, field.reference, 0]
        agreement = measure_share(top[:, 0] == other)
        difference = measure_change(right[:, 0], other[labelled] == labels) if known else None
    return EvaluationRow(
        one.name,
        answers.runtimes[index],
        one.precision,
        one.size / 1e6,
        top1=measure_share(right[:, 0]) if known else None,
        top5=measure_share(right.any(1)) if known and field.classes > TOP else None,
        agreement=agreement,
        change=difference,
        latency=latency,
        per_class=None if matrix is None else measure_classes(matrix),
        confusion=matrix,
        better_order=find_better_order(labels, top[labelled, 0], field.classes),
    )


def _make_found_row(index: int, field: ContenderGroup, answers: Answers, latency: Latency | None) -> EvaluationRow:
    """The row of what is found in images."""
    one, metric = field.contenders[index], field.contenders[index].metric
    assert isinstance(metric, FindingsMetric)
    measured = metric.measure([each[index] for each in answers.kept.values()])
    other = None
    if field.reference is not None and field.reference != index:
        other = metric.measure([each[field.reference] for each in answers.kept.values()])
    figures, moved = measure_figures(measured, other, len(answers.kept))
    by_class = measured.by_class
    return EvaluationRow(
        one.name,
        answers.runtimes[index],
        one.precision,
        one.size / 1e6,
        top1=None,
        top5=None,
        agreement=None,
        change=None,
        latency=latency,
        per_class=tuple(by_class.get(at) for at in range(max((*by_class, field.classes - 1), default=-1) + 1)),
        confusion=None,
        figures=figures,
        moved=moved,
        images_by_class=measured.images_by_class,
    )


def _find_failures(row: EvaluationRow, options: EvaluateOptions) -> list[str]:
    """The requirements that a bundle misses, by its measured value, not by the ends of its interval."""
    found: list[str] = []
    if row.runtime == TORCH or row.main is None:
        return found
    name, value = row.main
    if options.floor is not None and value < options.floor:
        found.append(f"{row.title}: {name} {value:.2%} is below {options.floor:.2%}")
    most, lost = options.max_drop, row.lost
    if most is not None and lost is not None and lost > most + 1e-9:  # 3 of 1000 are 0.3 points, whatever binary says
        found.append(f"{row.title}: lost {lost:.2f} points of {name}, {most} allowed")
    return found


def _collect_remarks(answers: Answers, labelled: Bools, data: Mapping[str, Any]) -> list[str]:
    found = []
    if not labelled.all():
        missing = int((~labelled).sum())
        found.append(f"{missing} of {len(labelled)} images have no label: agreement is measured on all, top-1 is not")
    found += describe_left_out(data)
    return found + list(answers.untimed)
