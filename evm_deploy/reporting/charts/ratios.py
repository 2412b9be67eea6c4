"""The time of each contender relative to the first of its profile, with its interval."""

from __future__ import annotations

from collections.abc import Sequence

from evm_deploy.console import clean
from evm_deploy.reporting.entries import ReportEntry
from evm_deploy.reporting.quantities import format_interval
from evm_deploy.reporting.scales import draw_axis, fit_scale
from evm_deploy.reporting.svg import WIDTH, Markup, draw_chart, draw_line, draw_shape

ROW, TOP = 42.0, 6.0


def draw(entries: Sequence[ReportEntry]) -> Markup | None:
    """Draws a row for each ratio; the line at 1 is the first contender."""
    found = [(entry, entry.ratio) for entry in entries if entry.ratio is not None]
    if not found:
        return None
    ends = [value for _, one in found for value in (one.ratio.low, one.ratio.high)]
    scale = fit_scale([*ends, 1.0], 10, WIDTH - 10)
    bottom = TOP + ROW * len(found)
    unit = "times as long as the first" + (", logarithmic" if scale.log else "")
    parts = draw_axis(scale, TOP, bottom, unit)
    for index, (entry, one) in enumerate(found):
        y, low, high = TOP + ROW * index, scale(one.ratio.low), scale(one.ratio.high)
        parts += [
            *draw_line(y + 14, entry.label, format_interval(one.ratio)),
            draw_shape("line", class_="one", x1=scale(1), x2=scale(1), y1=y + 20, y2=y + 36),
            draw_shape("line", class_=f"bar {entry.colour}", x1=low, x2=max(high, low + 1), y1=y + 28, y2=y + 28),
            draw_shape("circle", class_=f"dot {entry.colour}", cx=scale(one.ratio.value), cy=y + 28, r=4.5),
            draw_shape("rect", _describe_ratio(entry), class_="hover", x=0, y=y, width=WIDTH, height=ROW),
        ]
    return draw_chart("Ratios to the first contender, with 95 % intervals", bottom + 34, parts)


def _describe_ratio(entry: ReportEntry) -> str:
    if entry.ratio is None:
        return entry.label
    inside = entry.ratio.ratio.low <= 1 <= entry.ratio.ratio.high
    verdict = "the interval contains 1: no difference was found" if inside else "the interval does not contain 1"
    return f"{entry.label} relative to {clean(entry.ratio.reference)}\n{format_interval(entry.ratio.ratio)}: {verdict}"
