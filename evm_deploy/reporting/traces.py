"""The time of each operator of a contender: a trace for Perfetto and a flame graph, in a file each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evm_deploy.profiling.flame import draw_flame
from evm_deploy.profiling.report import ProfileReport
from evm_deploy.profiling.trace import write_chrome_trace
from evm_deploy.reporting.entries import collect_entries


def write_traces(folder: Path, reports: Sequence[ProfileReport]) -> None:
    """Writes `traces/N.json` and `flames/N.svg` for each result with timed operators; N is its row in the table."""
    for index, entry in enumerate(collect_entries(reports), 1):
        operators = entry.result.operators
        if operators is not None and operators.rows:
            _write_text(folder / "traces" / f"{index}.json", write_chrome_trace(operators, entry.label))
            _write_text(folder / "flames" / f"{index}.svg", draw_flame(operators, entry.label))


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8", errors="replace", newline="\n")
