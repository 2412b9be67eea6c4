"""The results table for a terminal, and the lines below it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evm_deploy.profiling.report import ProfileReport
from evm_deploy.reporting.accuracy import Accuracy
from evm_deploy.reporting.columns import choose_columns, find_common_values, make_cells
from evm_deploy.reporting.entries import ReportEntry, collect_entries
from evm_deploy.reporting.quantities import ABSENT, format_number

Table = tuple[list[str], list[list[Any]]]  # heads, rows

NARROW = ("first ms", "golden error")  # left out, because a terminal has no room for them


def tabulate_contenders(report: ProfileReport, known: Sequence[Accuracy] = ()) -> Table:
    """The table of one profile: a row for each contender, with 95 % intervals in brackets."""
    return tabulate_reports([report], known)


def list_footer_lines(report: ProfileReport) -> list[str]:
    """The lines below the table: how it was measured, shared values, warnings and notes."""
    same = [f"{head} {text}" for head, text in find_common_values(collect_entries([report])) if head != "device"]
    return [
        describe_figures(report),
        *([f"the same for all: {', '.join(same)}"] if same else []),
        *collect_remarks([report]),
    ]


def describe_figures(report: ProfileReport) -> str:
    """One line that says how the figures of a profile were measured."""
    return f"{describe_method(report)}; 95 % intervals in brackets"


def tabulate_reports(reports: Sequence[ProfileReport], known: Sequence[Accuracy] = ()) -> Table:
    """The table of several profiles, for `console.print_table`. Results are compared with the first of their report.

    Raises InputError: no report.
    """
    found = collect_entries(reports, known)
    table = [[None if cell.text == ABSENT else cell.text for cell in row] for row in make_cells(found)]
    heads = [column.head for column in choose_columns(found)]
    kept = [index for index, head in enumerate(heads) if head not in NARROW]
    return [heads[index] for index in kept], [[row[index] for index in kept] for row in table]


def collect_remarks(reports: Sequence[ProfileReport]) -> list[str]:
    """Warnings, failures, notes and estimates, a line each."""
    found = [f"warning: {warning}" for report in reports for warning in group_warnings(report)]
    for entry in collect_entries(reports):
        found += [f"{entry.label}: {said}" for said in (*describe_result(entry), *describe_estimates(entry))]
    return list(dict.fromkeys(found))


def group_warnings(report: ProfileReport) -> list[str]:
    """The warnings of a report. One line names all contenders with the same warning."""
    names = sorted((result.name for result in report.results), key=len, reverse=True)
    groups: dict[str, list[str]] = {}
    for warning in report.warnings:
        name = next((name for name in names if warning.startswith(f"{name}: ")), None)
        groups.setdefault(warning if name is None else warning[len(name) + 2 :], []).extend([name] if name else [])
    return [f"{_name_contenders(whose, len(names))}{words}" for words, whose in groups.items()]


def _name_contenders(whose: Sequence[str], all_of_them: int) -> str:
    if not whose:
        return ""
    return "all contenders: " if len(whose) == all_of_them > 1 else f"{', '.join(whose)}: "


def describe_result(entry: ReportEntry) -> list[str]:
    """The lines about one result: that it failed, that its output is wrong, its notes."""
    result, golden = entry.result, entry.result.golden
    found = [f"failed: {result.error}"] if result.error is not None else []
    if golden is not None and not golden.passed and result.error is None:
        found.append(f"wrong output: its error on the golden pair is {format_number(golden.relative_error)}")
    return [*found, *result.notes]


def describe_estimates(entry: ReportEntry) -> list[str]:
    """The estimates of one result, marked as estimates."""
    lines = []
    for one in entry.result.estimates:
        ms, low, high = (format_number(value, 2) for value in (one.ms, one.low, one.high))
        lines.append(f"estimate, not measured: {one.device} {ms} ms, {low} to {high}")
    return lines


def describe_method(report: ProfileReport) -> str:
    """How a report was measured, as part of a sentence."""
    asked = report.method
    often = f"{format_number(asked.seconds)} s each" if asked.seconds is not None else f"{asked.iterations} runs each"
    order = ", in turns" if asked.interleaved and len(report.results) > 1 else ""
    device, threads = report.device, report.conditions.threads
    where = ", ".join(filter(None, (device.name, device.cpu, f"{device.cores} cores" if device.cores else None)))
    return f"{often}{order}, {_describe_threads(threads)}, one image at a time, on {where}"


def _describe_threads(count: int | None) -> str:
    if not count:
        return "as many threads as the runtime chose"
    return f"{count} thread" + ("s" if count > 1 else "")
