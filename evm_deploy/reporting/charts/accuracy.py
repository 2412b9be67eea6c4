"""Accuracy and latency. A line joins the contenders that no other beats in both."""

from __future__ import annotations

from collections.abc import Sequence

from evm_deploy.reporting.accuracy import AccuracyShare
from evm_deploy.reporting.entries import ReportEntry
from evm_deploy.reporting.quantities import format_interval, format_number
from evm_deploy.reporting.scales import draw_axis, draw_side_axis, fit_scale
from evm_deploy.reporting.svg import WIDTH, Markup, draw_chart, draw_legend, draw_path, draw_shape

LEFT, TOP, BOTTOM = 46.0, 22.0, 250.0
Point = tuple[ReportEntry, float, AccuracyShare]  # median in ms, top-1


def draw(entries: Sequence[ReportEntry]) -> Markup | None:
    """Draws a point for each entry that was both timed and evaluated."""
    points = find_points(entries)
    if not points:
        return None
    room = [
        ms * factor for _, ms, _ in points for factor in (0.9, 1.1)
    ]  # so that contenders with similar times are drawn near each other
    across = fit_scale(room, LEFT + 8, WIDTH - 14)
    up = fit_scale(
        [100 * end for _, _, share in points for end in (share.low, share.high)], BOTTOM - 6, TOP + 4, log=False
    )
    unit = "median, milliseconds" + (", logarithmic" if across.log else "")
    parts = [*draw_axis(across, TOP, BOTTOM, unit), *draw_side_axis(up, LEFT, WIDTH - 8, "top-1 %")]
    parts.append(
        draw_path([(across(ms), up(100 * share.value)) for _, ms, share in find_front(points)], class_="front")
    )
    for entry, ms, share in points:
        x, said = (
            across(ms),
            f"{entry.label}\ntop-1 {format_number(100 * share.value, 4)} %, {_format_median(entry)} ms",
        )
        parts += [
            draw_shape(
                "line", class_=f"rule {entry.colour}", x1=x, x2=x, y1=up(100 * share.low), y2=up(100 * share.high)
            ),
            draw_shape("circle", said, class_=f"dot {entry.colour}", cx=x, cy=up(100 * share.value), r=6),
        ]
    squares, height = draw_legend([(entry.label, entry.colour) for entry, _, _ in points], BOTTOM + 38)
    return draw_chart("Accuracy by latency", BOTTOM + 38 + height, [*parts, *squares])


def find_points(entries: Sequence[ReportEntry]) -> list[Point]:
    """The entries with both latency and accuracy."""
    return [
        (entry, entry.result.summary.p50.value, entry.accuracy)
        for entry in entries
        if entry.measured and entry.result.summary and entry.accuracy
    ]


def find_front(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats (faster and at least as accurate, or as fast and more accurate), fastest first."""
    found: list[Point] = []
    for point in sorted(points, key=lambda point: (point[1], -point[2].value)):
        if not found or point[2].value > found[-1][2].value:
            found.append(point)
    return found


def _format_median(entry: ReportEntry) -> str:
    return format_interval(entry.result.summary.p50 if entry.result.summary else None)
