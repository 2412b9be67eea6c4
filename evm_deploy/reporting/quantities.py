"""Figures as text: three significant digits, with an interval where there is one."""

from __future__ import annotations

import math

from evm_deploy.profiling.report import Interval

ABSENT = "-"


def format_number(value: float | None, digits: int = 3, *, tick: bool = False) -> str:
    """Formats `value` with `digits` significant digits, without an exponent where possible; None becomes a dash.

    tick: for a round number beside an axis, without trailing zeros.
    """
    if value is None or not math.isfinite(value):
        return ABSENT
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits - 1}e}")  # rounded first, so that 9.999 becomes 10.0, not 10.00
    power = math.floor(math.log10(abs(rounded)))
    if not -4 <= power < 7:
        return f"{value:.{0 if tick else digits - 2}e}"
    text = f"{rounded:,.{max(0, digits - 1 - power)}f}" if power < digits else f"{value:,.0f}"
    return text.rstrip("0").rstrip(".") if tick and "." in text else text


def format_interval(value: Interval | None) -> str:
    """Formats a figure with its interval in brackets."""
    return (
        ABSENT
        if value is None
        else f"{format_number(value.value)} [{format_number(value.low)}, {format_number(value.high)}]"
    )


def scale_value(value: float | None, factor: float) -> float | None:
    """`value` in another unit; None stays None."""
    return None if value is None else value * factor


def format_per_cent(share: float | None, digits: int = 1) -> str:
    """Formats a share from 0 to 1 in per cent."""
    return ABSENT if share is None else f"{100 * share:.{digits}f}"
