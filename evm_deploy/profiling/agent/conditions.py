"""The state of the machine at one moment, as Linux tells it in /proc and /sys; elsewhere what there is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from . import jetson
from .machine import ROOT, numbered, text

CPUS, THERMAL = "sys/devices/system/cpu", "sys/class/thermal"


def snapshot(root: Path = ROOT) -> dict[str, Any]:
    """`Snapshot` of the report, but for `throttled`, which takes two of them: see `throttled`."""
    return {
        "load": load(),
        "governor": governor(root),
        "clocks_mhz": clocks(root),
        "temperatures_c": temperatures(root),
        "throttled": None,
    }


def load() -> float | None:
    """Running processes, the average of the last minute."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def governor(root: Path = ROOT) -> str | None:
    """Of the cores' clocks: its name, or several."""
    found = (text(core / "cpufreq/scaling_governor") for _, core in numbered(root / CPUS, "cpu"))
    return ", ".join(sorted({name for name in found if name})) or None


def clocks(root: Path = ROOT) -> list[float] | None:
    """Megahertz of each core now."""
    found = [_number(core / "cpufreq/scaling_cur_freq") for _, core in numbered(root / CPUS, "cpu")]
    return [clock / 1e3 for clock in found if clock is not None] or None


def temperatures(root: Path = ROOT) -> dict[str, float] | None:
    """Degrees Celsius by zone."""
    found: dict[str, float] = {}
    for number, zone in numbered(root / THERMAL, "thermal_zone"):
        value = _number(zone / "temp")
        name = text(zone / "type") or "zone"
        if value is not None and -100_000 < value < 300_000:
            found[f"{name} {number}" if name in found else name] = value / 1e3
    return found or None


def counters(root: Path = ROOT) -> int | None:
    """How often clocks were held down, for heat or for power, since the machine started; None where none counts."""
    names = ("core_throttle_count", "package_throttle_count")
    cores = [core / "thermal_throttle" for _, core in numbered(root / CPUS, "cpu")]
    found = [_number(core / name) for core in cores for name in names]
    known = [int(value) for value in (*found, jetson.overcurrent(root)) if value is not None]
    return sum(known) if known else None


def throttled(before: int | None, after: int | None) -> bool | None:
    """Of `counters` before and after."""
    return None if before is None or after is None else after > before


def power(root: Path = ROOT) -> dict[str, str]:
    """Modes of power, where the machine has them."""
    return jetson.power() if jetson.present(root) else {}


def _number(path: Path) -> float | None:
    try:
        return float(text(path) or "")
    except ValueError:
        return None
