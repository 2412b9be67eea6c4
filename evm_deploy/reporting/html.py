"""One HTML file that needs nothing else: no network, no other file, and no script but its own for the table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evm_deploy.console import clean
from evm_deploy.profiling import flame
from evm_deploy.profiling.report import Operator, Operators, ProfileReport
from evm_deploy.reporting.accuracy import Accuracy
from evm_deploy.reporting.charts import accuracy, blocks, kinds, ratios, roofline, spread, times, turns
from evm_deploy.reporting.columns import Column, cells, common, left_out, shown
from evm_deploy.reporting.conditions import facts
from evm_deploy.reporting.entries import Entry, device_names, entries
from evm_deploy.reporting.page import hashes, template
from evm_deploy.reporting.quantities import number, per_cent
from evm_deploy.reporting.svg import Markup
from evm_deploy.reporting.table import method, said_of, warnings

LONGEST = 15  # operators in a table: those that take longest


@dataclass(frozen=True)
class Chart:
    """A chart of all contenders, what it is called, and how to read it."""

    title: str
    caption: str
    draw: Callable[[Sequence[Entry]], Markup | None]


CHARTS = (
    Chart(
        "Times",
        "The density of the timed runs up to the 99th percentile. The dot is the median, the bar its 95 % interval; "
        "the marks to the right of it are p90 and p99.",
        times.draw,
    ),
    Chart(
        "Ratios",
        "The median of the ratios of neighbouring turns, with its 95 % interval. What is left of 1 is faster than the "
        "first contender.",
        ratios.draw,
    ),
    Chart(
        "Accuracy beside latency",
        "Up is more accurate, left is faster; the upright lines are 95 % intervals. The line joins what no other "
        "contender beats in both.",
        accuracy.draw,
    ),
    Chart("Steadiness", "The share of runs that took no longer than so many times the median.", spread.draw),
    Chart(
        "In the order of the runs",
        "Each on an axis of its own. A drift or a step says that the machine changed while it was measured.",
        turns.draw,
    ),
)


@dataclass(frozen=True)
class Device:
    """What stands above the table of one report."""

    name: str
    report: ProfileReport
    method: str
    warnings: list[str]


@dataclass(frozen=True)
class Detail:
    """One contender by operator."""

    label: str
    whole: str
    coverage: str  # per cent of the whole that the operators account for
    pictures: tuple[tuple[str, Markup], ...]  # title, picture
    flame: Markup
    longest: tuple[tuple[str, ...], ...]
    count: int


def render(reports: Sequence[ProfileReport], known: Sequence[Accuracy] = (), notes: Sequence[str] = ()) -> str:
    """The page for these reports, which have their summaries; `known` adds accuracies that were evaluated,
    `notes` lines below the table.

    Raises InputError: no report; MissingToolError: jinja2 is not installed.
    """
    found = entries(reports, known)
    details = [_detail(entry.label, one) for entry in found if (one := entry.result.operators) and one.rows]
    columns = shown(found)
    page: str = template().render(
        devices=[
            Device(name, report, method(report), warnings(report))
            for report, name in zip(reports, device_names(reports), strict=True)
        ],
        entries=found,
        columns=columns,
        rows=list(zip(found, cells(found), strict=True)),
        filters=_filters(columns, found),
        common=common(found),
        left_out=left_out(found),
        notes=notes,
        said=[(entry.label, words) for entry in found for words in said_of(entry)],
        estimates=[(entry, one) for entry in found for one in entry.result.estimates],
        basis=_basis(found),
        charts=[(chart, svg) for chart in CHARTS if (svg := chart.draw(found)) is not None],
        kinds=kinds.draw(found),
        details=details,
        facts=facts(reports),
        hashes=hashes([one.flame for one in details]),
    )
    return page


def _detail(label: str, operators: Operators) -> Detail:
    pictures = [("By block of the network", blocks.draw(operators)), ("Roofline", roofline.draw(operators))]
    longest = sorted(operators.rows, key=lambda row: -row.ms)[:LONGEST]
    total = sum(row.ms for row in operators.rows)
    return Detail(
        label,
        number(operators.whole_ms),
        per_cent(total / operators.whole_ms if operators.whole_ms > 0 else None),
        tuple((title, picture) for title, picture in pictures if picture is not None),
        Markup(flame.svg(operators, label)),
        tuple(map(_operator, longest)),
        len(operators.rows),
    )


def _operator(row: Operator) -> tuple[str, ...]:
    """A row of the table of operators."""
    speed = row.flops / row.ms / 1e6 if row.flops and row.ms > 0 else None
    reached = row.roofline_ms / row.ms if row.roofline_ms is not None and row.ms > 0 else None
    words = (clean(row.name), clean(row.op), clean(row.kind), clean(row.block))
    return (*words, number(row.ms), per_cent(row.share), number(speed), per_cent(reached, 0))


def _filters(columns: Sequence[Column], found: Sequence[Entry]) -> list[tuple[int, str, list[str]]]:
    """The columns of words with more than one value: (index, head, values)."""
    wanted = []
    for index, column in enumerate(columns):
        values = sorted({column.cell(entry).text for entry in found})
        if index and not column.numeric and len(values) > 1:
            wanted.append((index, column.head, values))
    return wanted


def _basis(found: Sequence[Entry]) -> list[str]:
    """What the estimates stand on: the source of each device, and what is said of each contender, once."""
    guesses = [(entry, one) for entry in found for one in entry.result.estimates]
    sources = [f"{one.device}: {one.source}" for _, one in guesses]
    return list(dict.fromkeys([*sources, *(f"{entry.label}: {one.note}" for entry, one in guesses)]))
