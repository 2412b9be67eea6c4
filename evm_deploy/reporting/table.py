"""The table for a terminal, and what has to be said below it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evm_deploy.profiling.report import ProfileReport
from evm_deploy.reporting.accuracy import Accuracy
from evm_deploy.reporting.columns import cells, common, shown
from evm_deploy.reporting.entries import Entry, entries
from evm_deploy.reporting.quantities import ABSENT, number

Table = tuple[list[str], list[list[Any]]]  # heads, rows

NARROW = ("first ms", "golden error")  # left out of a terminal's table, which has no room for them


def contenders(report: ProfileReport, known: Sequence[Accuracy] = ()) -> Table:
    """A row for each contender of one profile; in brackets the 95 % interval."""
    return rows([report], known)


def footer(report: ProfileReport) -> list[str]:
    """What the table's figures are of, and what has to be said of them."""
    same = [f"{head} {text}" for head, text in common(entries([report])) if head != "device"]
    return [of_figures(report), *([f"the same for all: {', '.join(same)}"] if same else []), *remarks([report])]


def of_figures(report: ProfileReport) -> str:
    """How the figures of one profile were measured, in a line."""
    return f"{method(report)}; in brackets 95 % intervals"


def rows(reports: Sequence[ProfileReport], known: Sequence[Accuracy] = ()) -> Table:
    """For `console.print_table`: the first result of each report is what its others are compared with.

    Raises InputError: no report.
    """
    found = entries(reports, known)
    table = [[None if cell.text == ABSENT else cell.text for cell in row] for row in cells(found)]
    heads = [column.head for column in shown(found)]
    kept = [index for index, head in enumerate(heads) if head not in NARROW]
    return [heads[index] for index in kept], [[row[index] for index in kept] for row in table]


def remarks(reports: Sequence[ProfileReport]) -> list[str]:
    """What makes the figures worth less, or says what they are of, a line each."""
    found = [f"warning: {warning}" for report in reports for warning in warnings(report)]
    for entry in entries(reports):
        found += [f"{entry.label}: {said}" for said in (*said_of(entry), *guesses(entry))]
    return list(dict.fromkeys(found))


def warnings(report: ProfileReport) -> list[str]:
    """The report's, one line for what is said of several contenders alike."""
    names = sorted((result.name for result in report.results), key=len, reverse=True)
    groups: dict[str, list[str]] = {}
    for warning in report.warnings:
        name = next((name for name in names if warning.startswith(f"{name}: ")), None)
        groups.setdefault(warning if name is None else warning[len(name) + 2 :], []).extend([name] if name else [])
    return [f"{_together(whose, len(names))}{words}" for words, whose in groups.items()]


def _together(whose: Sequence[str], all_of_them: int) -> str:
    if not whose:
        return ""
    return "all contenders: " if len(whose) == all_of_them > 1 else f"{', '.join(whose)}: "


def said_of(entry: Entry) -> list[str]:
    """What has to be known of one result: that it failed, that it is not right, its notes."""
    result, golden = entry.result, entry.result.golden
    found = [f"failed: {result.error}"] if result.error is not None else []
    if golden is not None and not golden.passed and result.error is None:
        found.append(f"not right: its error on the golden pair is {number(golden.relative_error)}")
    return [*found, *result.notes]


def guesses(entry: Entry) -> list[str]:
    """The estimates of one result, marked as such."""
    return [
        f"estimate, not measured: {one.device} {number(one.ms, 2)} ms, {number(one.low, 2)} to {number(one.high, 2)}"
        for one in entry.result.estimates
    ]


def method(report: ProfileReport) -> str:
    """How the report was measured, in a sentence."""
    asked = report.method
    often = f"{number(asked.seconds)} s each" if asked.seconds is not None else f"{asked.iterations} runs each"
    order = ", in turns" if asked.interleaved and len(report.results) > 1 else ""
    device, threads = report.device, report.conditions.threads
    where = ", ".join(filter(None, (device.name, device.cpu, f"{device.cores} cores" if device.cores else None)))
    return f"{often}{order}, {_threads(threads)}, one image at a time, on {where}"


def _threads(count: int | None) -> str:
    if not count:
        return "as many threads as the runtime chose"
    return f"{count} thread" + ("s" if count > 1 else "")
