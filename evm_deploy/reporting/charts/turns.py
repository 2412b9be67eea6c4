"""Times in the order in which they were measured: a drift or a burst of the neighbours shows here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evm_deploy.reporting.entries import Entry
from evm_deploy.reporting.quantities import number
from evm_deploy.reporting.scales import Scale, fitted
from evm_deploy.reporting.svg import WIDTH, Markup, chart, line, path, shape

ROW, LINE, TOP = 62.0, 36.0, 4.0
BINS = 160  # points of a line; with more runs each is the median of neighbours


def draw(entries: Sequence[Entry]) -> Markup | None:
    """A line for each entry, each on an axis of its own that ends at its 99th percentile."""
    timed = [entry for entry in entries if len(entry.result.samples_ms) > 1]
    if not timed:
        return None
    parts: list[Markup] = []
    for index, entry in enumerate(timed):
        parts += _row(entry, TOP + ROW * index)
    return chart("Times in the order of the runs", TOP + ROW * len(timed) + 4, parts)


def _row(entry: Entry, top: float) -> list[Markup]:
    samples = np.asarray(entry.result.samples_ms, np.float64)
    points = np.array([np.median(part) for part in np.array_split(samples, min(BINS, len(samples)))])
    low, high = float(points.min()), float(np.quantile(points, 0.99))
    across = Scale(0.0, max(len(points) - 1, 1), 8, WIDTH - 8)
    up = fitted((low, high), top + ROW - 6, top + ROW - 6 - LINE, log=False)
    said = f"{entry.label}\n{len(samples)} runs" + (
        "" if len(points) == len(samples) else f", a point the median of about {round(len(samples) / len(points))}"
    )
    return [
        *line(top + 13, entry.label, f"{number(low)} to {number(high)} ms", soft=True),
        shape("rect", class_="ground", x=8, y=top + ROW - 6 - LINE, width=WIDTH - 16, height=LINE),
        path([(across(i), up(float(y))) for i, y in enumerate(points)], class_=f"line {entry.colour}"),
        shape("rect", said, class_="hover", x=0, y=top, width=WIDTH, height=ROW),
    ]
