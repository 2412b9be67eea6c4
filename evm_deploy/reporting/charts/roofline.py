"""The roofline of one contender: the speed of each operator and the limit that memory and arithmetic set."""

from __future__ import annotations

import math
from dataclasses import dataclass

from evm_deploy.console import clean
from evm_deploy.profiling.kinds import KINDS
from evm_deploy.profiling.report import Operators, Roofline, TimedOperator
from evm_deploy.reporting.charts.kinds import find_kind
from evm_deploy.reporting.quantities import format_number, format_per_cent
from evm_deploy.reporting.scales import Scale, draw_axis, draw_side_axis, fit_scale
from evm_deploy.reporting.svg import WIDTH, Markup, draw_chart, draw_legend, draw_path, draw_shape, draw_text

LEFT, TOP, BOTTOM = 46.0, 22.0, 290.0
MOST = 300  # points in the chart: the operators that take longest


@dataclass(frozen=True)
class Point:
    """An operator in the chart. intensity: operations per byte. speed: 1e9 operations per second."""

    row: TimedOperator
    intensity: float
    speed: float


def draw(operators: Operators) -> Markup | None:
    """Draws a point for each operator with known operations and bytes. Its area is proportional to its time."""
    roof, found = operators.roofline, list_points(operators)
    if roof is None or not found:
        return None
    corner = roof.gflops / roof.gbytes
    across = fit_scale([corner / 4, corner * 8, *(point.intensity for point in found)], LEFT, WIDTH - 10, log=True)
    peaks = [roof.gflops, roof.int8_gops or roof.gflops, roof.gbytes * across.low]
    up = fit_scale([*(peak * 1.4 for peak in peaks), *(point.speed for point in found)], BOTTOM, TOP, log=True)
    parts = [
        *draw_axis(across, TOP, BOTTOM, "operations per byte"),
        *draw_side_axis(up, LEFT, WIDTH - 10, "1e9 operations per second"),
    ]
    parts += _draw_roofs(roof, across, up)
    longest = max(point.row.ms for point in found)
    for point in found:
        radius = max(1.6, 11 * math.sqrt(point.row.ms / longest)) if longest > 0 else 1.6
        x, y = across(point.intensity), up(point.speed)
        parts.append(
            draw_shape("circle", describe_point(point), class_=f"spot k-{find_kind(point.row)}", cx=x, cy=y, r=radius)
        )
    used = {find_kind(point.row) for point in found}
    squares, height = draw_legend([(kind, f"k-{kind}") for kind in KINDS if kind in used], BOTTOM + 38)
    return draw_chart(
        "Roofline: speed of each operator by its operations per byte", BOTTOM + 38 + height, [*parts, *squares]
    )


def list_points(operators: Operators) -> list[Point]:
    """The operators that can be drawn, the one that takes longest first."""
    found = [
        Point(row, row.flops / row.bytes, row.flops / row.ms / 1e6)
        for row in operators.rows
        if row.flops and row.bytes and row.flops > 0 and row.bytes > 0 and row.ms > 0
    ]
    return sorted(found, key=lambda point: -point.row.ms)[:MOST]


def describe_point(point: Point) -> str:
    """The tooltip of an operator."""
    row = point.row
    reached = f"\n{format_per_cent(row.roofline_ms / row.ms)} % of the roofline" if row.roofline_ms is not None else ""
    return (
        f"{clean(row.name)}\n{clean(row.op)}, {clean(row.kind)}: {format_number(row.ms)} ms\n"
        f"{format_number(point.speed)} Gop/s at {format_number(point.intensity)} operations per byte{reached}"
    )


def _draw_roofs(roof: Roofline, across: Scale, up: Scale) -> list[Markup]:
    parts = [
        _draw_roof(
            roof.gflops,
            roof.gbytes,
            across,
            up,
            "roof",
            f"float32 {format_number(roof.gflops)}, memory {format_number(roof.gbytes)} GB/s",
        )
    ]
    if roof.cache_gbytes is not None:
        parts.append(
            _draw_roof(
                roof.gflops,
                roof.cache_gbytes,
                across,
                up,
                "roof faint",
                f"cache {format_number(roof.cache_gbytes)} GB/s",
            )
        )
    if roof.int8_gops is not None:
        parts.append(
            _draw_roof(roof.int8_gops, roof.gbytes, across, up, "roof faint", f"int8 {format_number(roof.int8_gops)}")
        )
        parts.append(draw_text(WIDTH - 14, up(roof.int8_gops) - 5, "int8", class_="tick", text_anchor="end"))
    parts.append(
        draw_text(
            WIDTH - 14, up(roof.gflops) - 5, f"float32 {format_number(roof.gflops)}", class_="tick", text_anchor="end"
        )
    )
    return parts


def _draw_roof(peak: float, bandwidth: float, across: Scale, up: Scale, colour: str, title: str) -> Markup:
    """The line min(peak, bandwidth * intensity) within the chart."""
    corner = min(max(peak / bandwidth, across.low), across.high)
    ends = [across.low, corner, across.high]
    return draw_path([(across(x), up(min(peak, bandwidth * x))) for x in ends], title=title, class_=colour)
