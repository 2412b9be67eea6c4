"""Reads the accuracies that `evaluate --out` wrote and finds the result of a profile that each belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any, ClassVar

from evm_deploy.errors import InputError
from evm_deploy.files import read_file
from evm_deploy.jsontext import read_dataclass
from evm_deploy.profiling.report import Result

if TYPE_CHECKING:
    from evm_deploy.evaluation.report import EvaluationReport

LARGEST = 64 << 20  # bytes; with many classes, most of them are confusion matrices
FIX = "name the folder that `evm-deploy evaluate --out` wrote."
_STRICT = {"strict": True}  # other keys of an evaluation are ignored


@dataclass(frozen=True)
class AccuracyShare:
    """A share of images, 0 to 1, with its 95 % interval."""

    __pydantic_config__: ClassVar[Any] = _STRICT

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.value <= self.high <= 1:
            raise ValueError("a share is outside its interval, or outside 0 to 1")


@dataclass(frozen=True)
class Accuracy:
    """Top-1 of one bundle on one runtime; None where the images had no labels."""

    __pydantic_config__: ClassVar[Any] = _STRICT

    bundle: str  # its path, as the user gave it
    runtime: str
    precision: str
    top1: AccuracyShare | None

    @property
    def name(self) -> str:
        """The last part of the path, whichever system wrote it."""
        return PureWindowsPath(self.bundle).name or self.bundle


@dataclass(frozen=True)
class _Evaluation:
    __pydantic_config__: ClassVar[Any] = _STRICT

    rows: tuple[Accuracy, ...]
    images: int


def collect_accuracies(report: EvaluationReport) -> tuple[Accuracy, ...]:
    """The accuracies of an evaluation report that is in memory."""
    return tuple(
        Accuracy(row.bundle, row.runtime, row.precision, AccuracyShare(row.top1.value, row.top1.low, row.top1.high))
        for row in report.rows
        if row.top1 is not None
    )


def read_accuracies(path: Path) -> tuple[Accuracy, ...]:
    """Reads the rows with a top-1 from `evaluation.json` or the folder that holds it.

    Raises InputError: the file does not exist, is too large, or is not an evaluation.
    """
    file = path / "evaluation.json" if path.is_dir() else path
    content = read_file(file, LARGEST, lambda cause: InputError(cause, FIX))
    evaluation = read_dataclass(_Evaluation, content, str(file), InputError, FIX, "an evaluation")
    return tuple(row for row in evaluation.rows if row.top1 is not None)


def match_accuracy(known: Sequence[Accuracy], result: Result) -> AccuracyShare | None:
    """The accuracy of `result`: that of its bundle's name and precision, on the same runtime if that was evaluated.

    None where two bundles have that name, because it is not clear which is meant.
    """
    same = [one for one in known if one.name == result.bundle and one.precision == result.precision]
    same = [one for one in same if one.runtime == result.runtime] or same
    if len({one.bundle for one in same}) == 1:
        return same[0].top1
    return AccuracyShare(*3 * (result.accuracy,)) if result.accuracy is not None else None
