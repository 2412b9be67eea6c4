"""The report as one HTML file. It needs no network and no other file; its only script sorts and filters the table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evm_deploy.console import clean
from evm_deploy.profiling import flame
from evm_deploy.profiling.report import Operators, ProfileReport, TimedOperator
from evm_deploy.reporting.accuracy import Accuracy
from evm_deploy.reporting.charts import accuracy, blocks, kinds, ratios, roofline, spread, times, turns
from evm_deploy.reporting.columns import Column, choose_columns, find_common_values, list_unmeasured, make_cells
from evm_deploy.reporting.conditions import collect_facts
from evm_deploy.reporting.entries import ReportEntry, collect_entries, name_devices
from evm_deploy.reporting.page import hash_styles, load_template
from evm_deploy.reporting.quantities import format_number, format_per_cent
from evm_deploy.reporting.svg import Markup
from evm_deploy.reporting.table import describe_method, describe_result, group_warnings

LONGEST = 15  # operators in the table: those that take longest


@dataclass(frozen=True)
class Chart:
    """A chart of all contenders: its title, how to read it, and the function that draws it."""

    title: str
    caption: str
    draw: Callable[[Sequence[ReportEntry]], Markup | None]


CHARTS = (
    Chart(
        "Times",
        "The density of the timed runs up to the 99th percentile. The dot is the median, the bar its 95 % interval; "
        "the marks to the right of it are p90 and p99.",
        times.draw,
    ),
    Chart(
        "Ratios",
        "The median of the ratios of neighbouring turns, with its 95 % interval. Left of 1 is faster than the first "
        "contender.",
        ratios.draw,
    ),
    Chart(
        "Accuracy beside latency",
        "Higher is more accurate, further left is faster; the vertical lines are 95 % intervals. The line joins the "
        "contenders that no other beats in both.",
        accuracy.draw,
    ),
    Chart(
        "Steadiness",
        "The share of runs (vertical) that took at most this many times the median (horizontal).",
        spread.draw,
    ),
    Chart(
        "Times in order",
        "Each contender has its own axis. A drift or a step means that the machine changed during the measurement.",
        turns.draw,
    ),
)


@dataclass(frozen=True)
class DeviceSection:
    """One report in the header of the page."""

    name: str
    report: ProfileReport
    method: str
    warnings: list[str]


@dataclass(frozen=True)
class OperatorSection:
    """The section about the operators of one contender."""

    label: str
    whole: str
    coverage: str  # share of the whole that the operators account for, per cent
    pictures: tuple[tuple[str, Markup], ...]  # title, picture
    flame: Markup
    longest: tuple[tuple[str, ...], ...]
    count: int


def render(reports: Sequence[ProfileReport], known: Sequence[Accuracy] = (), notes: Sequence[str] = ()) -> str:
    """The page for these reports, which must have summaries. `known` adds evaluated accuracies, `notes` adds lines
    below the table.

    Raises InputError: no report; MissingToolError: jinja2 is not installed.
    """
    found = collect_entries(reports, known)
    details = [
        _make_operator_section(entry.label, one) for entry in found if (one := entry.result.operators) and one.rows
    ]
    columns = choose_columns(found)
    page: str = load_template().render(
        devices=[
            DeviceSection(name, report, describe_method(report), group_warnings(report))
            for report, name in zip(reports, name_devices(reports), strict=True)
        ],
        entries=found,
        columns=columns,
        rows=list(zip(found, make_cells(found), strict=True)),
        filters=_list_filters(columns, found),
        common=find_common_values(found),
        left_out=list_unmeasured(found),
        notes=notes,
        said=[(entry.label, words) for entry in found for words in describe_result(entry)],
        estimates=[(entry, one) for entry in found for one in entry.result.estimates],
        basis=_collect_sources(found),
        charts=[(chart, svg) for chart in CHARTS if (svg := chart.draw(found)) is not None],
        kinds=kinds.draw(found),
        details=details,
        facts=collect_facts(reports),
        hashes=hash_styles([one.flame for one in details]),
    )
    return page


def _make_operator_section(label: str, operators: Operators) -> OperatorSection:
    pictures = [("By block of the network", blocks.draw(operators)), ("Roofline", roofline.draw(operators))]
    longest = sorted(operators.rows, key=lambda row: -row.ms)[:LONGEST]
    total = sum(row.ms for row in operators.rows)
    return OperatorSection(
        label,
        format_number(operators.whole_ms),
        format_per_cent(total / operators.whole_ms if operators.whole_ms > 0 else None),
        tuple((title, picture) for title, picture in pictures if picture is not None),
        Markup(flame.draw_flame(operators, label)),
        tuple(map(_make_operator_row, longest)),
        len(operators.rows),
    )


def _make_operator_row(row: TimedOperator) -> tuple[str, ...]:
    """A row of the table of operators."""
    speed = row.flops / row.ms / 1e6 if row.flops and row.ms > 0 else None
    reached = row.roofline_ms / row.ms if row.roofline_ms is not None and row.ms > 0 else None
    words = (clean(row.name), clean(row.op), clean(row.kind), clean(row.block))
    return (
        *words,
        format_number(row.ms),
        format_per_cent(row.share),
        format_number(speed),
        format_per_cent(reached, 0),
    )


def _list_filters(columns: Sequence[Column], found: Sequence[ReportEntry]) -> list[tuple[int, str, list[str]]]:
    """The word columns with more than one value: (index, head, values)."""
    wanted = []
    for index, column in enumerate(columns):
        values = sorted({column.make_cell(entry).text for entry in found})
        if index and not column.numeric and len(values) > 1:
            wanted.append((index, column.head, values))
    return wanted


def _collect_sources(found: Sequence[ReportEntry]) -> list[str]:
    """The sources of the estimates: that of each device and the note on each contender, without repetition."""
    guesses = [(entry, one) for entry in found for one in entry.result.estimates]
    sources = [f"{one.device}: {one.source}" for _, one in guesses]
    return list(dict.fromkeys([*sources, *(f"{entry.label}: {one.note}" for entry, one in guesses)]))
