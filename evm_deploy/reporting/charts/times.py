"""Where the times of each contender lie: their density, the median with its interval, p90 and p99."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from evm_deploy.profiling.report import Summary
from evm_deploy.reporting.entries import Entry
from evm_deploy.reporting.quantities import interval, number
from evm_deploy.reporting.scales import Scale, axis, fitted
from evm_deploy.reporting.svg import WIDTH, Markup, chart, line, path, shape

ROW, HEIGHT, TOP = 58.0, 30.0, 4.0
POINTS = 72  # of a density
MOST = 1000  # samples that a density is made of: quantiles of all


def draw(entries: Sequence[Entry]) -> Markup | None:
    """A row for each entry with times, all on one axis, which ends at the largest p99."""
    timed = [(entry, entry.result.summary) for entry in entries if entry.result.summary and entry.result.samples_ms]
    if not timed:
        return None
    ends = [value for _, summary in timed if summary for value in (summary.min, summary.p99.value)]
    scale = fitted(ends, 8, WIDTH - 8)
    parts, bottom = [], TOP + ROW * len(timed)
    parts += axis(scale, TOP, bottom, "milliseconds" + (", logarithmic" if scale.log else ""))
    for index, (entry, summary) in enumerate(timed):
        if summary is not None:
            parts += _row(entry, summary, scale, TOP + ROW * index)
    return chart("Distribution of the times of each contender", bottom + 34, parts)


def _row(entry: Entry, summary: Summary, scale: Scale, top: float) -> list[Markup]:
    base, middle = top + ROW - 8, scale(summary.p50.value)
    shares = density(entry.result.samples_ms, scale)
    outline = [(x, base - HEIGHT * share) for x, share in shares]
    said = "\n".join(
        [
            entry.label,
            f"median {interval(summary.p50)} ms",
            f"p90 {number(summary.p90.value)}, p95 {number(summary.p95.value)}, p99 {number(summary.p99.value)} ms",
            f"{number(summary.min)} to {number(summary.max)} ms, {summary.count} runs",
        ]
    )
    parts = [
        *line(top + 14, entry.label, f"{number(summary.p50.value)} ms"),
        path([(outline[0][0], base), *outline, (outline[-1][0], base)], closed=True, class_=f"area {entry.colour}"),
        shape(
            "line", class_=f"rule {entry.colour}", x1=scale(summary.min), x2=scale(summary.p99.value), y1=base, y2=base
        ),
    ]
    for value in (summary.p90.value, summary.p99.value):
        parts.append(
            shape("line", class_=f"rule {entry.colour}", x1=scale(value), x2=scale(value), y1=base - 5, y2=base + 3)
        )
    low, high = scale(summary.p50.low), scale(summary.p50.high)
    parts.append(
        shape("rect", class_=f"fill {entry.colour}", x=low, y=base - 3, width=max(high - low, 1), height=6, rx=2)
    )
    parts.append(shape("circle", class_=f"dot {entry.colour}", cx=middle, cy=base, r=4.5))
    parts.append(shape("rect", said, class_="hover", x=0, y=top, width=WIDTH, height=ROW))
    return parts


def density(samples: Sequence[float], scale: Scale) -> list[tuple[float, float]]:
    """Points (place on the axis, density with its peak at 1) of a kernel estimate along the axis.

    The width of the kernel is Silverman's, of the samples as they are drawn, and never less than a hair.
    """
    array = np.asarray(samples, np.float64)
    if len(array) > MOST:
        array = np.quantile(array, np.linspace(0, 1, MOST))
    places = np.array([scale(value) for value in array])  # (n,)
    low, high = np.percentile(places, [25, 75])
    spread = min(float(places.std()), (high - low) / 1.349) or float(places.std())
    width = max(0.9 * spread * len(places) ** -0.2, 1.5)
    left, right = places.min() - 3 * width, places.max() + 3 * width
    grid: npt.NDArray[np.float64] = np.linspace(max(left, scale.start), min(right, scale.end), POINTS)  # (p,)
    heights = np.exp(-0.5 * ((grid[:, None] - places) / width) ** 2).sum(1)  # (p,)
    peak = float(heights.max())
    if not math.isfinite(peak) or peak <= 0:
        return [(float(x), 0.0) for x in grid]
    return [(float(x), float(height) / peak) for x, height in zip(grid, heights, strict=True)]
