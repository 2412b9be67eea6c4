"""Where the time of a run goes, by kind of operator: shares, so that fast and slow contenders can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from evm_deploy.console import clean
from evm_deploy.profiling.kinds import KINDS, OTHER
from evm_deploy.profiling.report import Operator, Operators
from evm_deploy.reporting.entries import Entry
from evm_deploy.reporting.quantities import number, per_cent
from evm_deploy.reporting.scales import Scale, axis
from evm_deploy.reporting.svg import WIDTH, Markup, chart, legend, line, shape

ROW, BAR, TOP = 44.0, 18.0, 4.0
REST = "between operators"


def draw(entries: Sequence[Entry]) -> Markup | None:
    """A bar for each entry whose operators were timed."""
    found = [(entry, entry.result.operators) for entry in entries if entry.result.operators]
    if not found:
        return None
    scale, bottom = Scale(0.0, 100.0, 8, WIDTH - 8), TOP + ROW * len(found)
    parts = axis(scale, TOP, bottom, "per cent of a run")
    for index, (entry, one) in enumerate(found):
        if one is not None:
            top = TOP + ROW * index
            parts += line(top + 14, entry.label, f"{number(one.whole_ms)} ms")
            times = by_kind(one)
            whole = sum(times.values())
            unit = (scale(100) - scale(0)) / whole if whole > 0 else 0.0
            parts += stack(times, scale(0), unit, top + 19, BAR, whole)
    squares, height = legend([*((kind, f"k-{kind}") for kind in _used(found)), (REST, "k-rest")], bottom + 38)
    return chart("Time by kind of operator", bottom + 38 + height, [*parts, *squares])


def by_kind(operators: Operators) -> dict[str, float]:
    """Milliseconds of each kind, in the order of `KINDS`, and what the operators do not account for."""
    found = sums(operators.rows)
    rest = operators.whole_ms - sum(found.values())
    return found | ({REST: rest} if rest > 0 else {})


def sums(rows: Iterable[Operator]) -> dict[str, float]:
    """Milliseconds of each kind that there is, in the order of `KINDS`."""
    found = dict.fromkeys(KINDS, 0.0)
    for row in rows:
        found[kind_of(row)] += row.ms
    return {kind: ms for kind, ms in found.items() if ms > 0}


def kind_of(row: Operator) -> str:
    """Its kind; one that a newer device tells is other."""
    return row.kind if row.kind in KINDS else OTHER


def stack(times: dict[str, float], left: float, unit: float, top: float, height: float, whole: float) -> list[Markup]:
    """Rectangles beside each other, as wide as their milliseconds times `unit`; what is under half a pixel is left out
    of the picture.
    """
    parts, x = [], left
    for kind, ms in times.items():
        width, said = ms * unit, f"{clean(kind)}\n{number(ms)} ms, {per_cent(ms / whole if whole else None)} %"
        if width >= 0.5:
            colour = "k-rest" if kind == REST else f"k-{kind}"
            parts.append(shape("rect", said, class_=f"fill {colour}", x=x, y=top, width=width, height=height))
        x += width
    return parts


def _used(found: Sequence[tuple[Entry, Operators | None]]) -> list[str]:
    kinds = {kind_of(row) for _, one in found if one for row in one.rows}
    return [kind for kind in KINDS if kind in kinds]
