"""The times of each contender: their density, the median with its interval, p90 and p99."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from evm_deploy.profiling.report import Summary
from evm_deploy.reporting.entries import ReportEntry
from evm_deploy.reporting.quantities import format_interval, format_number
from evm_deploy.reporting.scales import Scale, draw_axis, fit_scale
from evm_deploy.reporting.svg import WIDTH, Markup, draw_chart, draw_line, draw_path, draw_shape

ROW, HEIGHT, TOP = 58.0, 30.0, 4.0
POINTS = 72  # in a density curve
MOST = 1000  # samples used for a density; of more samples, this many quantiles


def draw(entries: Sequence[ReportEntry]) -> Markup | None:
    """Draws a row for each entry with times, all on one axis, which ends at the largest p99."""
    timed = [(entry, entry.result.summary) for entry in entries if entry.result.summary and entry.result.samples_ms]
    if not timed:
        return None
    ends = [value for _, summary in timed if summary for value in (summary.min, summary.p99.value)]
    scale = fit_scale(ends, 8, WIDTH - 8)
    parts, bottom = [], TOP + ROW * len(timed)
    parts += draw_axis(scale, TOP, bottom, "milliseconds" + (", logarithmic" if scale.log else ""))
    for index, (entry, summary) in enumerate(timed):
        if summary is not None:
            parts += _draw_row(entry, summary, scale, TOP + ROW * index)
    return draw_chart("Distribution of the times of each contender", bottom + 34, parts)


def _draw_row(entry: ReportEntry, summary: Summary, scale: Scale, top: float) -> list[Markup]:
    base, middle = top + ROW - 8, scale(summary.p50.value)
    shares = estimate_density(entry.result.samples_ms, scale)
    outline = [(x, base - HEIGHT * share) for x, share in shares]
    p90, p95, p99 = (format_number(one.value) for one in (summary.p90, summary.p95, summary.p99))
    said = "\n".join(
        [
            entry.label,
            f"median {format_interval(summary.p50)} ms",
            f"p90 {p90}, p95 {p95}, p99 {p99} ms",
            f"{format_number(summary.min)} to {format_number(summary.max)} ms, {summary.count} runs",
        ]
    )
    parts = [
        *draw_line(top + 14, entry.label, f"{format_number(summary.p50.value)} ms"),
        draw_path(
            [(outline[0][0], base), *outline, (outline[-1][0], base)], closed=True, class_=f"area {entry.colour}"
        ),
        draw_shape(
            "line", class_=f"rule {entry.colour}", x1=scale(summary.min), x2=scale(summary.p99.value), y1=base, y2=base
        ),
    ]
    for value in (summary.p90.value, summary.p99.value):
        parts.append(
            draw_shape(
                "line", class_=f"rule {entry.colour}", x1=scale(value), x2=scale(value), y1=base - 5, y2=base + 3
            )
        )
    low, high = scale(summary.p50.low), scale(summary.p50.high)
    parts.append(
        draw_shape("rect", class_=f"fill {entry.colour}", x=low, y=base - 3, width=max(high - low, 1), height=6, rx=2)
    )
    parts.append(draw_shape("circle", class_=f"dot {entry.colour}", cx=middle, cy=base, r=4.5))
    parts.append(draw_shape("rect", said, class_="hover", x=0, y=top, width=WIDTH, height=ROW))
    return parts


def estimate_density(samples: Sequence[float], scale: Scale) -> list[tuple[float, float]]:
    """Estimates the density along the axis with a Gaussian kernel: points (place on the axis, density; peak 1).

    The kernel has Silverman's width, computed from the places on the axis, and is never narrower than 1.5 units.
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
