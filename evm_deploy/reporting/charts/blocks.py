"""The time of one contender by block of the network; each bar is divided by kind of operator."""

from __future__ import annotations

from evm_deploy.console import clean
from evm_deploy.profiling.kinds import KINDS
from evm_deploy.profiling.report import Operators, TimedOperator
from evm_deploy.reporting.charts.kinds import draw_stack, find_kind, sum_by_kind
from evm_deploy.reporting.quantities import format_number, format_per_cent
from evm_deploy.reporting.scales import draw_axis, fit_scale
from evm_deploy.reporting.svg import WIDTH, Markup, draw_chart, draw_legend, draw_text, shorten

ROW, BAR, TOP, LEFT = 22.0, 14.0, 4.0, 150.0
MOST = 48  # blocks in the chart; more would be unreadable
OUTSIDE, OTHERS = "outside of blocks", "all other blocks"


def draw(operators: Operators) -> Markup | None:
    """Draws a bar for each block, in the order of the network."""
    blocks = group_by_block(operators)
    if not blocks:
        return None
    totals = {name: sum(row.ms for row in rows) for name, rows in blocks.items()}
    scale = fit_scale(totals.values(), LEFT, WIDTH - 60, zero=True)
    bottom = TOP + ROW * len(blocks)
    parts = draw_axis(scale, TOP, bottom, "milliseconds")
    whole = sum(totals.values())
    for index, (name, rows) in enumerate(blocks.items()):
        top, ms = TOP + ROW * index, totals[name]
        share = format_per_cent(ms / whole if whole else None)
        said = f"{clean(name)}\n{format_number(ms)} ms, {share} %, {len(rows)} operators"
        parts.append(draw_text(LEFT - 8, top + 14, shorten(clean(name), LEFT - 10), title=said, text_anchor="end"))
        parts += draw_stack(sum_by_kind(rows), scale(0), scale(1) - scale(0), top + 3, BAR, whole)
        parts.append(draw_text(scale(ms) + 6, top + 14, format_number(ms), class_="tick"))
    used = {find_kind(row) for row in operators.rows}
    squares, height = draw_legend([(kind, f"k-{kind}") for kind in KINDS if kind in used], bottom + 38)
    return draw_chart("Time by block of the network", bottom + 38 + height, [*parts, *squares])


def group_by_block(operators: Operators) -> dict[str, list[TimedOperator]]:
    """The operators of each block, in the order of running. With more than `MOST` blocks, the fastest are united."""
    found: dict[str, list[TimedOperator]] = {}
    for row in operators.rows:
        found.setdefault(row.block or OUTSIDE, []).append(row)
    if len(found) <= MOST:
        return found
    longest = sorted(found, key=lambda name: -sum(row.ms for row in found[name]))[: MOST - 1]
    kept = {name: rows for name, rows in found.items() if name in longest}
    return kept | {OTHERS: [row for name, rows in found.items() if name not in longest for row in rows]}
