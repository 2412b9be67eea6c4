"""How steady each contender is: the share of its runs that took no longer than so many times its median."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evm_deploy.reporting.entries import Entry
from evm_deploy.reporting.quantities import number
from evm_deploy.reporting.scales import Scale, axis, fitted, side_axis
from evm_deploy.reporting.svg import WIDTH, Markup, chart, legend, path

LEFT, TOP, BOTTOM = 40.0, 22.0, 240.0
SHARES = np.linspace(0, 0.99, 100)  # to p99: beyond it a few runs would set the axis of all
WIDEST = 3.0  # times the median


def draw(entries: Sequence[Entry]) -> Markup | None:
    """One line an entry: the distribution function of its times by their median."""
    lines = []
    for entry in entries:
        samples = np.asarray(entry.result.samples_ms, np.float64)
        if len(samples) > 1 and (median := float(np.median(samples))) > 0:
            lines.append((entry, np.quantile(samples, SHARES) / median))
    if not lines:
        return None
    ends = [float(value) for _, line in lines for value in (line[0], min(line[-1], WIDEST))]
    across, up = fitted([*ends, 1.0], LEFT, WIDTH - 8, log=False), Scale(0.0, 1.0, BOTTOM, TOP)
    parts = [
        *axis(across, TOP, BOTTOM, "time by the contender's median"),
        *side_axis(up, LEFT, WIDTH - 8, "share of runs"),
    ]
    for entry, line in lines:
        points = [(across(x), up(y)) for x, y in zip(line, SHARES, strict=True) if x <= across.high]
        said = f"{entry.label}\np90 is {number(line[90])} times the median, p99 {number(line[99])} times"
        parts.append(path(points, title=said, class_=f"line {entry.colour}"))
    squares, height = legend([(entry.label, entry.colour) for entry, _ in lines], BOTTOM + 38)
    return chart("Distribution of each contender's times by its median", BOTTOM + 38 + height, [*parts, *squares])
