"""Times in the order of measurement, which shows a drift or a disturbance by other programs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evm_deploy.reporting.entries import ReportEntry
from evm_deploy.reporting.quantities import format_number
from evm_deploy.reporting.scales import Scale, fit_scale
from evm_deploy.reporting.svg import WIDTH, Markup, draw_chart, draw_line, draw_path, draw_shape

ROW, LINE, TOP = 62.0, 36.0, 4.0
BINS = 160  # points in a line; with more runs, each point is the median of several neighbours


def draw(entries: Sequence[ReportEntry]) -> Markup | None:
    """Draws a line for each entry, each on its own axis, which ends at its 99th percentile."""
    timed = [entry for entry in entries if len(entry.result.samples_ms) > 1]
    if not timed:
        return None
    parts: list[Markup] = []
    for index, entry in enumerate(timed):
        parts += _draw_row(entry, TOP + ROW * index)
    return draw_chart("Times in the order of the runs", TOP + ROW * len(timed) + 4, parts)


def _draw_row(entry: ReportEntry, top: float) -> list[Markup]:
    samples = np.asarray(entry.result.samples_ms, np.float64)
    points = np.array([np.median(part) for part in np.array_split(samples, min(BINS, len(samples)))])
    low, high = float(points.min()), float(np.quantile(points, 0.99))
    across = Scale(0.0, max(len(points) - 1, 1), 8, WIDTH - 8)
    up = fit_scale((low, high), top + ROW - 6, top + ROW - 6 - LINE, log=False)
    said = f"{entry.label}\n{len(samples)} runs" + (
        ""
        if len(points) == len(samples)
        else f"; each point is the median of about {round(len(samples) / len(points))}"
    )
    return [
        *draw_line(top + 13, entry.label, f"{format_number(low)} to {format_number(high)} ms", soft=True),
        draw_shape("rect", class_="ground", x=8, y=top + ROW - 6 - LINE, width=WIDTH - 16, height=LINE),
        draw_path([(across(i), up(float(y))) for i, y in enumerate(points)], class_=f"line {entry.colour}"),
        draw_shape("rect", said, class_="hover", x=0, y=top, width=WIDTH, height=ROW),
    ]
