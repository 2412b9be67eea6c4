"""Accuracy beside latency: what no other contender beats in both is joined by a line."""

from __future__ import annotations

from collections.abc import Sequence

from evm_deploy.reporting.accuracy import Share
from evm_deploy.reporting.entries import Entry
from evm_deploy.reporting.quantities import interval, number
from evm_deploy.reporting.scales import axis, fitted, side_axis
from evm_deploy.reporting.svg import WIDTH, Markup, chart, legend, path, shape

LEFT, TOP, BOTTOM = 46.0, 22.0, 250.0
Point = tuple[Entry, float, Share]  # median in ms, top-1


def draw(entries: Sequence[Entry]) -> Markup | None:
    """A point an entry that was both timed and evaluated."""
    points = known(entries)
    if not points:
        return None
    room = [ms * factor for _, ms, _ in points for factor in (0.9, 1.1)]  # near ones are drawn near
    across = fitted(room, LEFT + 8, WIDTH - 14)
    up = fitted(
        [100 * end for _, _, share in points for end in (share.low, share.high)], BOTTOM - 6, TOP + 4, log=False
    )
    unit = "median, milliseconds" + (", logarithmic" if across.log else "")
    parts = [*axis(across, TOP, BOTTOM, unit), *side_axis(up, LEFT, WIDTH - 8, "top-1 %")]
    parts.append(path([(across(ms), up(100 * share.value)) for _, ms, share in front(points)], class_="front"))
    for entry, ms, share in points:
        x, said = across(ms), f"{entry.label}\ntop-1 {number(100 * share.value, 4)} %, {_median(entry)} ms"
        parts += [
            shape("line", class_=f"rule {entry.colour}", x1=x, x2=x, y1=up(100 * share.low), y2=up(100 * share.high)),
            shape("circle", said, class_=f"dot {entry.colour}", cx=x, cy=up(100 * share.value), r=6),
        ]
    squares, height = legend([(entry.label, entry.colour) for entry, _, _ in points], BOTTOM + 38)
    return chart("Accuracy by latency", BOTTOM + 38 + height, [*parts, *squares])


def known(entries: Sequence[Entry]) -> list[Point]:
    """Those entries of which latency and accuracy are known."""
    return [
        (entry, entry.result.summary.p50.value, entry.accuracy)
        for entry in entries
        if entry.measured and entry.result.summary and entry.accuracy
    ]


def front(points: Sequence[Point]) -> list[Point]:
    """What no other is faster than and at least as accurate, or as fast and more accurate; fastest first."""
    found: list[Point] = []
    for point in sorted(points, key=lambda point: (point[1], -point[2].value)):
        if not found or point[2].value > found[-1][2].value:
            found.append(point)
    return found


def _median(entry: Entry) -> str:
    return interval(entry.result.summary.p50 if entry.result.summary else None)
