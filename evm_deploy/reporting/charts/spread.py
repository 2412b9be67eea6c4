"""How steady each contender is: the distribution of its times, divided by their median."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evm_deploy.reporting.entries import ReportEntry
from evm_deploy.reporting.quantities import format_number
from evm_deploy.reporting.scales import Scale, draw_axis, draw_side_axis, fit_scale
from evm_deploy.reporting.svg import WIDTH, Markup, draw_chart, draw_legend, draw_path

LEFT, TOP, BOTTOM = 40.0, 22.0, 240.0
SHARES = np.linspace(0, 0.99, 100)  # to p99, because a few slow runs would stretch the axis
WIDEST = 3.0  # times the median


def draw(entries: Sequence[ReportEntry]) -> Markup | None:
    """Draws a line for each entry: the distribution function of its times, divided by their median."""
    lines = []
    for entry in entries:
        samples = np.asarray(entry.result.samples_ms, np.float64)
        if len(samples) > 1 and (median := float(np.median(samples))) > 0:
            lines.append((entry, np.quantile(samples, SHARES) / median))
    if not lines:
        return None
    ends = [float(value) for _, line in lines for value in (line[0], min(line[-1], WIDEST))]
    across, up = fit_scale([*ends, 1.0], LEFT, WIDTH - 8, log=False), Scale(0.0, 1.0, BOTTOM, TOP)
    parts = [
        *draw_axis(across, TOP, BOTTOM, "time divided by the contender's median"),
        *draw_side_axis(up, LEFT, WIDTH - 8, "share of runs"),
    ]
    for entry, line in lines:
        points = [(across(x), up(y)) for x, y in zip(line, SHARES, strict=True) if x <= across.high]
        said = f"{entry.label}\np90 is {format_number(line[90])} times the median, p99 {format_number(line[99])} times"
        parts.append(draw_path(points, title=said, class_=f"line {entry.colour}"))
    squares, height = draw_legend([(entry.label, entry.colour) for entry, _ in lines], BOTTOM + 38)
    return draw_chart(
        "Distribution of each contender's times, divided by its median", BOTTOM + 38 + height, [*parts, *squares]
    )
