"""Axes of charts: where a value is drawn, and the round numbers beside the axis."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from evm_deploy.reporting.quantities import format_number
from evm_deploy.reporting.svg import Markup, draw_text, make_element

WIDE = 8.0  # with a larger ratio of the largest value to the smallest, an axis is logarithmic
ROUND = (1.0, 2.0, 5.0)


@dataclass(frozen=True)
class Scale:
    """An axis from `low` to `high` (low < high; both above 0 where it is logarithmic), drawn from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Where `value` is drawn; a value outside the axis is drawn at its end."""
        low, high, at = self.low, self.high, min(max(value, self.low), self.high)
        share = math.log(at / low) / math.log(high / low) if self.log else (at - low) / (high - low)
        return self.start + share * (self.end - self.start)

    def choose_ticks(self, most: int = 6) -> list[float]:
        """Round values within the axis, ascending; about `most` at the most."""
        if self.log:
            found = self._list_decades(ROUND)
            if len(found) > most:
                found = self._list_decades((1.0,))
                found = found[:: math.ceil(len(found) / most)]
            if len(found) >= 3:
                return found
        return _step_evenly(self.low, self.high, most)

    def _list_decades(self, digits: Iterable[float]) -> list[float]:
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        found = [digit * 10.0**power for power in range(first, last + 1) for digit in digits]
        return [value for value in found if self.low <= value <= self.high]


def fit_scale(
    values: Iterable[float], start: float, end: float, *, zero: bool = False, log: bool | None = None
) -> Scale:
    """An axis that holds all `values` with a little room; logarithmic if they are far apart and above 0.

    zero: the axis starts at 0 and is linear. log: decides whether it is logarithmic (needs values above 0).
    """
    finite = [value for value in values if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    if zero:
        return Scale(0.0, high * 1.02 if high > 0 else 1.0, start, end)
    log = (low > 0 and high / low > WIDE) if log is None else log and low > 0
    if log:
        room = max((high / low) ** 0.03, 1.02)
        return Scale(low / room, high * room, start, end, log=True)
    room = max(0.04 * (high - low), 1e-3 * abs(high), 1e-9)
    return Scale(max(low - room, 0.0) if low >= 0 else low - room, high + room, start, end)


def draw_axis(scale: Scale, top: float, bottom: float, unit: str, least: float = 34.0) -> list[Markup]:
    """Draws a horizontal axis below a chart: grid lines from `top` to `bottom`, their values, and the unit."""
    most = max(2, int((scale.end - scale.start) / 60))
    parts, last = [], -math.inf
    for value in scale.choose_ticks(most):
        x = scale(value)
        parts.append(make_element("line", class_="grid", x1=x, x2=x, y1=top, y2=bottom))
        if x - last >= least:
            anchor = "end" if x > scale.end - 8 else "middle"
            parts.append(draw_text(x, bottom + 14, format_number(value, tick=True), class_="tick", text_anchor=anchor))
            last = x
    parts.append(draw_text((scale.start + scale.end) / 2, bottom + 30, unit, class_="tick", text_anchor="middle"))
    return parts


def draw_side_axis(scale: Scale, left: float, right: float, unit: str) -> list[Markup]:
    """Draws a vertical axis with its values on the left."""
    parts = []
    for value in scale.choose_ticks(6):
        y = scale(value)
        parts.append(make_element("line", class_="grid", x1=left, x2=right, y1=y, y2=y))
        parts.append(draw_text(left - 5, y + 4, format_number(value, tick=True), class_="tick", text_anchor="end"))
    parts.append(draw_text(2, min(scale.start, scale.end) - 8, unit, class_="tick"))
    return parts


def _step_evenly(low: float, high: float, most: int) -> list[float]:
    rough = (high - low) / max(most, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * digit for digit in (*ROUND, 10.0) if power * digit >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]
