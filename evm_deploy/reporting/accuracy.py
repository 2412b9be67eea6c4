"""Accuracy beside latency: what `evaluate --out` wrote, and which result of a profile it belongs to."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any, ClassVar

from evm_deploy.errors import InputError
from evm_deploy.files import read_file
from evm_deploy.jsontext import first_problem
from evm_deploy.profiling.report import Result

if TYPE_CHECKING:
    from evm_deploy.evaluation.report import EvaluationReport

LARGEST = 64 << 20  # bytes: with many classes the confusion matrices are most of it
FIX = "name the folder that `evm-deploy evaluate --out` wrote."
_STRICT = {"strict": True}  # keys that only an evaluation needs are passed over


@dataclass(frozen=True)
class Share:
    """A share of images, 0 to 1, with its 95 % interval."""

    __pydantic_config__: ClassVar[Any] = _STRICT

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.value <= self.high <= 1:
            raise ValueError("a share is not within its interval, or not within 0 to 1")


@dataclass(frozen=True)
class Accuracy:
    """Top-1 of one bundle, run in one way; None where the images had no labels."""

    __pydantic_config__: ClassVar[Any] = _STRICT

    bundle: str  # as it was named: a path
    runtime: str
    precision: str
    top1: Share | None

    @property
    def name(self) -> str:
        """The last part of the path, on whatever system it was written."""
        return PureWindowsPath(self.bundle).name or self.bundle


@dataclass(frozen=True)
class _Evaluation:
    __pydantic_config__: ClassVar[Any] = _STRICT

    rows: tuple[Accuracy, ...]
    images: int


def of(report: EvaluationReport) -> tuple[Accuracy, ...]:
    """What an evaluation that was just made found."""
    return tuple(
        Accuracy(row.bundle, row.runtime, row.precision, Share(row.top1.value, row.top1.low, row.top1.high))
        for row in report.rows
        if row.top1 is not None
    )


def read(path: Path) -> tuple[Accuracy, ...]:
    """The rows of `evaluation.json`, or of the folder that holds it, that have a top-1.

    Raises InputError: there is no such file, it is too large, or it is not what an evaluation writes.
    """
    from pydantic import ValidationError

    file = path / "evaluation.json" if path.is_dir() else path
    content = read_file(file, LARGEST, lambda cause: InputError(cause, FIX))
    try:
        evaluation = _adapter().validate_json(content)
    except ValidationError as error:
        at, problem = first_problem(error)
        raise InputError(f"{file} is not an evaluation: {at or 'the file'}: {problem}.", FIX) from None
    return tuple(row for row in evaluation.rows if row.top1 is not None)


def match(known: Sequence[Accuracy], result: Result) -> Share | None:
    """The accuracy of `result`: of its bundle's name and precision, in the same way of running where that was
    evaluated; None where two bundles have that name, and it cannot be said which is meant.
    """
    same = [one for one in known if one.name == result.bundle and one.precision == result.precision]
    same = [one for one in same if one.runtime == result.runtime] or same
    if len({one.bundle for one in same}) == 1:
        return same[0].top1
    return Share(*3 * (result.accuracy,)) if result.accuracy is not None else None


@functools.cache
def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(_Evaluation)
