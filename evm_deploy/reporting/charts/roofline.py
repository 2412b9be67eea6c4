"""How far each operator is from what this machine can do: the roof is memory's speed, then arithmetic's."""

from __future__ import annotations

import math
from dataclasses import dataclass

from evm_deploy.console import clean
from evm_deploy.profiling.kinds import KINDS
from evm_deploy.profiling.report import Operator, Operators, Roofline
from evm_deploy.reporting.charts.kinds import kind_of
from evm_deploy.reporting.quantities import number, per_cent
from evm_deploy.reporting.scales import Scale, axis, fitted, side_axis
from evm_deploy.reporting.svg import WIDTH, Markup, chart, legend, path, shape, text

LEFT, TOP, BOTTOM = 46.0, 22.0, 290.0
MOST = 300  # points, those that take longest


@dataclass(frozen=True)
class Point:
    """An operator on the plane: operations a byte, and 1e9 operations a second."""

    row: Operator
    intensity: float
    speed: float


def draw(operators: Operators) -> Markup | None:
    """A point for each operator whose operations and bytes are known, its area as its time."""
    roof, found = operators.roofline, points(operators)
    if roof is None or not found:
        return None
    corner = roof.gflops / roof.gbytes
    across = fitted([corner / 4, corner * 8, *(point.intensity for point in found)], LEFT, WIDTH - 10, log=True)
    peaks = [roof.gflops, roof.int8_gops or roof.gflops, roof.gbytes * across.low]
    up = fitted([*(peak * 1.4 for peak in peaks), *(point.speed for point in found)], BOTTOM, TOP, log=True)
    parts = [
        *axis(across, TOP, BOTTOM, "operations a byte"),
        *side_axis(up, LEFT, WIDTH - 10, "1e9 operations a second"),
    ]
    parts += _roofs(roof, across, up)
    longest = max(point.row.ms for point in found)
    for point in found:
        radius = max(1.6, 11 * math.sqrt(point.row.ms / longest)) if longest > 0 else 1.6
        x, y = across(point.intensity), up(point.speed)
        parts.append(shape("circle", said(point), class_=f"spot k-{kind_of(point.row)}", cx=x, cy=y, r=radius))
    used = {kind_of(point.row) for point in found}
    squares, height = legend([(kind, f"k-{kind}") for kind in KINDS if kind in used], BOTTOM + 38)
    return chart("Roofline: speed of each operator by its operations a byte", BOTTOM + 38 + height, [*parts, *squares])


def points(operators: Operators) -> list[Point]:
    """What can be drawn, what takes longest first."""
    found = [
        Point(row, row.flops / row.bytes, row.flops / row.ms / 1e6)
        for row in operators.rows
        if row.flops and row.bytes and row.flops > 0 and row.bytes > 0 and row.ms > 0
    ]
    return sorted(found, key=lambda point: -point.row.ms)[:MOST]


def said(point: Point) -> str:
    """What is shown of an operator where the mouse rests on it."""
    row = point.row
    reached = f"\n{per_cent(row.roofline_ms / row.ms)} % of the roofline" if row.roofline_ms is not None else ""
    return (
        f"{clean(row.name)}\n{clean(row.op)}, {clean(row.kind)}: {number(row.ms)} ms\n"
        f"{number(point.speed)} Gop/s at {number(point.intensity)} operations a byte{reached}"
    )


def _roofs(roof: Roofline, across: Scale, up: Scale) -> list[Markup]:
    parts = [
        _roof(
            roof.gflops,
            roof.gbytes,
            across,
            up,
            "roof",
            f"float32 {number(roof.gflops)}, memory {number(roof.gbytes)} GB/s",
        )
    ]
    if roof.cache_gbytes is not None:
        parts.append(
            _roof(roof.gflops, roof.cache_gbytes, across, up, "roof faint", f"cache {number(roof.cache_gbytes)} GB/s")
        )
    if roof.int8_gops is not None:
        parts.append(_roof(roof.int8_gops, roof.gbytes, across, up, "roof faint", f"int8 {number(roof.int8_gops)}"))
        parts.append(text(WIDTH - 14, up(roof.int8_gops) - 5, "int8", class_="tick", text_anchor="end"))
    parts.append(
        text(WIDTH - 14, up(roof.gflops) - 5, f"float32 {number(roof.gflops)}", class_="tick", text_anchor="end")
    )
    return parts


def _roof(peak: float, bandwidth: float, across: Scale, up: Scale, colour: str, title: str) -> Markup:
    """The line min(peak, bandwidth * intensity) within the chart."""
    corner = min(max(peak / bandwidth, across.low), across.high)
    ends = [across.low, corner, across.high]
    return path([(across(x), up(min(peak, bandwidth * x))) for x in ends], title=title, class_=colour)
