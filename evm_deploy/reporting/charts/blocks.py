"""Where the time of one contender goes, by block of the network, each bar by kind of operator."""

from __future__ import annotations

from evm_deploy.console import clean
from evm_deploy.profiling.kinds import KINDS
from evm_deploy.profiling.report import Operator, Operators
from evm_deploy.reporting.charts.kinds import kind_of, stack, sums
from evm_deploy.reporting.quantities import number, per_cent
from evm_deploy.reporting.scales import axis, fitted
from evm_deploy.reporting.svg import WIDTH, Markup, chart, legend, short, text

ROW, BAR, TOP, LEFT = 22.0, 14.0, 4.0, 150.0
MOST = 48  # blocks: more could not be read
OUTSIDE, OTHERS = "outside of blocks", "all other blocks"


def draw(operators: Operators) -> Markup | None:
    """A bar for each block, in the order of the network."""
    blocks = grouped(operators)
    if not blocks:
        return None
    totals = {name: sum(row.ms for row in rows) for name, rows in blocks.items()}
    scale = fitted(totals.values(), LEFT, WIDTH - 60, zero=True)
    bottom = TOP + ROW * len(blocks)
    parts = axis(scale, TOP, bottom, "milliseconds")
    whole = sum(totals.values())
    for index, (name, rows) in enumerate(blocks.items()):
        top, ms = TOP + ROW * index, totals[name]
        said = f"{clean(name)}\n{number(ms)} ms, {per_cent(ms / whole if whole else None)} %, {len(rows)} operators"
        parts.append(text(LEFT - 8, top + 14, short(clean(name), LEFT - 10), title=said, text_anchor="end"))
        parts += stack(sums(rows), scale(0), scale(1) - scale(0), top + 3, BAR, whole)
        parts.append(text(scale(ms) + 6, top + 14, number(ms), class_="tick"))
    used = {kind_of(row) for row in operators.rows}
    squares, height = legend([(kind, f"k-{kind}") for kind in KINDS if kind in used], bottom + 38)
    return chart("Time by block of the network", bottom + 38 + height, [*parts, *squares])


def grouped(operators: Operators) -> dict[str, list[Operator]]:
    """The operators of each block, in the order in which they run; of very many blocks the longest by themselves."""
    found: dict[str, list[Operator]] = {}
    for row in operators.rows:
        found.setdefault(row.block or OUTSIDE, []).append(row)
    if len(found) <= MOST:
        return found
    longest = sorted(found, key=lambda name: -sum(row.ms for row in found[name]))[: MOST - 1]
    kept = {name: rows for name, rows in found.items() if name in longest}
    return kept | {OTHERS: [row for name, rows in found.items() if name not in longest for row in rows]}
