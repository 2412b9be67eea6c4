"""Compares an artifact, opened as its users will open it, with PyTorch. Every bundle has to pass this."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from evm_deploy.errors import BundleError
from evm_deploy.runtimes import Runner
from evm_deploy.tasks import IOSpec, Task
from evm_deploy.tasks.agreement import ShapeDiffers
from evm_deploy.verification.scans import ScanReport

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class ParityRow:
    """One output of one runtime for one input; the figures are those of `tasks.agreement.Agreement`."""

    runtime: str
    input: str
    output: str
    max_abs: float
    relative: float
    cosine: float
    psnr: float
    top1: float | None
    passed: bool


@dataclass(frozen=True)
class ParityReport:
    """All comparisons, their tolerance, and where a failure begins."""

    reference: str  # what the artifact was compared with
    tolerance: float  # of `ParityRow.relative`
    rows: tuple[ParityRow, ...]
    first_divergent_block: str | None = None
    notes: tuple[str, ...] = ()  # what could not be checked, and why
    scans: ScanReport | None = None  # of graphs that have scan operators, where the network is at hand

    @property
    def passed(self) -> bool:
        """True when there was something to compare and all of it agrees."""
        agree = self.scans is None or self.scans.passed
        return bool(self.rows) and all(row.passed for row in self.rows) and agree

    def summarise(self) -> tuple[ParityRow, ...]:
        """Merges the inputs: a row for each output of each runtime, with its largest errors and least agreement."""
        groups: dict[tuple[str, str], list[ParityRow]] = {}
        for row in self.rows:
            groups.setdefault((row.runtime, row.output), []).append(row)
        return tuple(merge_rows(rows) for rows in groups.values())

    def describe_worst_failure(self) -> str:
        """Describes the failed comparison with the largest error."""
        failed = [row for row in self.rows if not row.passed]
        if not failed and self.scans is not None:
            scans = self.scans
            return f"the recurrence of {scans.where} is off by {scans.relative:.1e} of {scans.tolerance:.1e}"
        row = max(failed, key=lambda row: row.relative)
        where = f", from {self.first_divergent_block} on" if self.first_divergent_block else ""
        error = f"{row.relative:.1e} of {self.tolerance:.1e}"
        return f"{row.output} on {row.runtime} for {row.input} is off by {error}{where}"

    def to_dict(self) -> dict[str, Any]:
        """The report and its verdict, as the manifest keeps them."""
        return dataclasses.asdict(self) | {"passed": self.passed}


def compare_runners(
    runners: Sequence[Runner],
    images: Mapping[str, Array],
    expected: Mapping[str, Sequence[Array]],
    outputs: Sequence[IOSpec],
    tolerance: float,
    *,
    task: Task,
) -> tuple[ParityRow, ...]:
    """Runs every image on every runner, and compares the outputs as the task does.

    Raises BundleError for an output of another shape.
    """
    rows = []
    for runner in runners:
        for name, image in images.items():
            try:
                found = task.compare(runner.run(image), expected[name], outputs, tolerance)
            except ShapeDiffers as other:
                raise BundleError(
                    f"{other.output} on {runner.name} has shape {other.found} for {name}, not {other.expected}.",
                    "export the model again.",
                ) from None
            rows += [
                ParityRow(runner.name, name, one.output, **dataclasses.asdict(one.agreement), passed=one.passed)
                for one in found
            ]
    return tuple(rows)


def merge_rows(rows: Sequence[ParityRow]) -> ParityRow:
    """The largest errors and least agreement of rows of one runtime."""
    top1 = [row.top1 for row in rows if row.top1 is not None]
    return ParityRow(
        rows[0].runtime,
        rows[0].input if len(rows) == 1 else f"{len(rows)} inputs",
        rows[0].output,
        max_abs=max(row.max_abs for row in rows),
        relative=max(row.relative for row in rows),
        cosine=min(row.cosine for row in rows),
        psnr=min(row.psnr for row in rows),
        top1=sum(top1) / len(top1) if top1 else None,
        passed=all(row.passed for row in rows),
    )
