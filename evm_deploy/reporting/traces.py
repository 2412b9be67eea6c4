"""Where the time of one run goes, for other tools: a trace for Perfetto and a picture, a file each for a contender."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evm_deploy.profiling.flame import svg
from evm_deploy.profiling.report import ProfileReport
from evm_deploy.profiling.trace import chrome_trace
from evm_deploy.reporting.entries import entries


def write(folder: Path, reports: Sequence[ProfileReport]) -> None:
    """Writes `traces/N.json` and `flames/N.svg` of each result whose operators were timed, the N-th of the table."""
    for index, entry in enumerate(entries(reports), 1):
        operators = entry.result.operators
        if operators is not None and operators.rows:
            _write(folder / "traces" / f"{index}.json", chrome_trace(operators, entry.label))
            _write(folder / "flames" / f"{index}.svg", svg(operators, entry.label))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8", errors="replace", newline="\n")
