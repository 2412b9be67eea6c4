"""The time of a run by kind of operator, as shares, so that fast and slow contenders can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from evm_deploy.console import clean
from evm_deploy.profiling.kinds import KINDS, OTHER
from evm_deploy.profiling.report import Operators, TimedOperator
from evm_deploy.reporting.entries import ReportEntry
from evm_deploy.reporting.quantities import format_number, format_per_cent
from evm_deploy.reporting.scales import Scale, draw_axis
from evm_deploy.reporting.svg import WIDTH, Markup, draw_chart, draw_legend, draw_line, draw_shape

ROW, BAR, TOP = 44.0, 18.0, 4.0
REST = "between operators"


def draw(entries: Sequence[ReportEntry]) -> Markup | None:
    """Draws a bar for each entry whose operators were timed."""
    found = [(entry, entry.result.operators) for entry in entries if entry.result.operators]
    if not found:
        return None
    scale, bottom = Scale(0.0, 100.0, 8, WIDTH - 8), TOP + ROW * len(found)
    parts = draw_axis(scale, TOP, bottom, "per cent of a run")
    for index, (entry, one) in enumerate(found):
        if one is not None:
            top = TOP + ROW * index
            parts += draw_line(top + 14, entry.label, f"{format_number(one.whole_ms)} ms")
            times = split_by_kind(one)
            whole = sum(times.values())
            unit = (scale(100) - scale(0)) / whole if whole > 0 else 0.0
            parts += draw_stack(times, scale(0), unit, top + 19, BAR, whole)
    squares, height = draw_legend(
        [*((kind, f"k-{kind}") for kind in _list_used_kinds(found)), (REST, "k-rest")], bottom + 38
    )
    return draw_chart("Time by kind of operator", bottom + 38 + height, [*parts, *squares])


def split_by_kind(operators: Operators) -> dict[str, float]:
    """Milliseconds of each kind, in the order of `KINDS`, then the time between operators."""
    found = sum_by_kind(operators.rows)
    rest = operators.whole_ms - sum(found.values())
    return found | ({REST: rest} if rest > 0 else {})


def sum_by_kind(rows: Iterable[TimedOperator]) -> dict[str, float]:
    """Milliseconds of each kind that occurs, in the order of `KINDS`."""
    found = dict.fromkeys(KINDS, 0.0)
    for row in rows:
        found[find_kind(row)] += row.ms
    return {kind: ms for kind, ms in found.items() if ms > 0}


def find_kind(row: TimedOperator) -> str:
    """The kind of an operator; one that this version does not know counts as other."""
    return row.kind if row.kind in KINDS else OTHER


def draw_stack(
    times: dict[str, float], left: float, unit: float, top: float, height: float, whole: float
) -> list[Markup]:
    """Draws rectangles beside each other, `unit` wide for each millisecond. Those under half a unit are left out."""
    parts, x = [], left
    for kind, ms in times.items():
        width, said = (
            ms * unit,
            f"{clean(kind)}\n{format_number(ms)} ms, {format_per_cent(ms / whole if whole else None)} %",
        )
        if width >= 0.5:
            colour = "k-rest" if kind == REST else f"k-{kind}"
            parts.append(draw_shape("rect", said, class_=f"fill {colour}", x=x, y=top, width=width, height=height))
        x += width
    return parts


def _list_used_kinds(found: Sequence[tuple[ReportEntry, Operators | None]]) -> list[str]:
    kinds = {find_kind(row) for _, one in found if one for row in one.rows}
    return [kind for kind in KINDS if kind in kinds]
