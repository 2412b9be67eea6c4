"""The report of a benchmark: a row for each form of a checkpoint, whether or not it could be made here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from evm_deploy.jsontext import dumps
from evm_deploy.profiling.report import Interval, ProfileReport
from evm_deploy.reporting.accuracy import AccuracyShare
from evm_deploy.reporting.quantities import format_interval, format_number, format_per_cent, scale_value

OK, VERIFIED = "ok", "verified, not timed here"
FAILED, NOT_HERE = "failed", "not here"


@dataclass(frozen=True)
class BenchmarkRow:
    """One form, run in one way. Unknown values are None."""

    format: str  # pytorch, onnx, coreml, tensorrt
    precision: str
    runtime: str | None
    status: str  # one of the four above
    reason: str | None = None  # why it is not ok, in a sentence
    size_bytes: int | None = None
    load_ms: float | None = None
    p50: Interval | None = None  # ms
    p99: Interval | None = None  # ms
    memory_bytes: int | None = None
    top1: AccuracyShare | None = None
    parity: float | None = None  # largest relative error against what the bundle was verified with, at its export


@dataclass(frozen=True)
class BenchmarkReport:
    """All rows, the profile that contains their times, and notes."""

    checkpoint: str  # name of the file
    rows: tuple[BenchmarkRow, ...]
    profile: ProfileReport | None  # None: nothing could be timed
    notes: tuple[str, ...] = ()

    @property
    def failures(self) -> tuple[str, ...]:
        """The forms that were tried here and failed."""
        return tuple(_name_row(row) + f": {row.reason}" for row in self.rows if row.status == FAILED)

    def to_json(self) -> str:
        """Stable text."""
        return dumps(self)


def tabulate_rows(report: BenchmarkReport) -> tuple[list[str], list[list[Any]]]:
    """For `console.print_table`: format, precision, status, and what was measured; in brackets the 95 % interval."""
    evaluated = any(row.top1 for row in report.rows)
    heads = ["format", "precision", "runtime", "status", "MB", "load ms", "p50 ms", "p99 ms", "memory MB"]
    rows = [
        [
            row.format,
            row.precision,
            row.runtime,
            row.status,
            _format_value(scale_value(row.size_bytes, 1e-6)),
            _format_value(row.load_ms),
            format_interval(row.p50) if row.p50 else None,
            _format_value(row.p99.value) if row.p99 else None,
            _format_value(scale_value(row.memory_bytes, 1e-6)),
            *([_format_share(row.top1)] if evaluated else []),
            _format_value(row.parity, 2),
        ]
        for row in report.rows
    ]
    return [*heads, *(["top-1 %"] if evaluated else []), "parity"], rows


def describe_figures(report: BenchmarkReport) -> list[str]:
    """Explains the figures, and adds the notes, a line each."""
    from evm_deploy.reporting import table

    profile = report.profile
    return [
        *([table.describe_figures(profile), *table.collect_remarks([profile])] if profile else []),
        *collect_remarks(report),
    ]


def collect_remarks(report: BenchmarkReport) -> list[str]:
    """Notes that the profile does not contain: which forms are missing, and why."""
    reasons = (f"{_name_row(row)}: {row.status}: {row.reason}" for row in report.rows if row.reason)
    return [*dict.fromkeys(reasons), *report.notes]


def _name_row(row: BenchmarkRow) -> str:
    return f"{row.format} {row.precision}"


def _format_value(value: float | None, digits: int = 3) -> str | None:
    return None if value is None else format_number(value, digits)


def _format_share(share: AccuracyShare | None) -> str | None:
    if share is None:
        return None
    return f"{format_per_cent(share.value, 2)} [{format_per_cent(share.low)}, {format_per_cent(share.high)}]"
