"""Figures as text: three digits that mean something, and an interval where there is one."""

from __future__ import annotations

import math

from evm_deploy.profiling.report import Interval

ABSENT = "-"


def number(value: float | None, digits: int = 3, *, tick: bool = False) -> str:
    """`value` to so many significant digits, without an exponent where it needs none; what is absent is a dash.

    tick: a round number beside an axis, without zeros at its end.
    """
    if value is None or not math.isfinite(value):
        return ABSENT
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits - 1}e}")  # first, so that 9.999 is 10.0, not 10.00
    power = math.floor(math.log10(abs(rounded)))
    if not -4 <= power < 7:
        return f"{value:.{0 if tick else digits - 2}e}"
    text = f"{rounded:,.{max(0, digits - 1 - power)}f}" if power < digits else f"{value:,.0f}"
    return text.rstrip("0").rstrip(".") if tick and "." in text else text


def interval(value: Interval | None) -> str:
    """A figure with its interval in brackets."""
    return ABSENT if value is None else f"{number(value.value)} [{number(value.low)}, {number(value.high)}]"


def scaled(value: float | None, factor: float) -> float | None:
    """`value` in another unit; absent stays absent."""
    return None if value is None else value * factor


def per_cent(share: float | None, digits: int = 1) -> str:
    """A share, 0 to 1, in per cent."""
    return ABSENT if share is None else f"{100 * share:.{digits}f}"
