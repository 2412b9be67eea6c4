"""The state of the machine at one moment, from /proc and /sys on Linux; other systems give less."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from . import jetson
from .machine import ROOT, list_numbered, read_text

CPUS, THERMAL = "sys/devices/system/cpu", "sys/class/thermal"


def take_snapshot(root: Path = ROOT) -> dict[str, Any]:
    """A `Snapshot` of the report, without `throttled`, which needs two snapshots (see `is_throttled`)."""
    return {
        "load": read_load(),
        "governor": read_governor(root),
        "clocks_mhz": read_clocks(root),
        "temperatures_c": read_temperatures(root),
        "throttled": None,
    }


def read_load() -> float | None:
    """The average number of running processes over the last minute."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def read_governor(root: Path = ROOT) -> str | None:
    """The name of the clock governor of the cores, or several names."""
    found = (read_text(core / "cpufreq/scaling_governor") for _, core in list_numbered(root / CPUS, "cpu"))
    return ", ".join(sorted({name for name in found if name})) or None


def read_clocks(root: Path = ROOT) -> list[float] | None:
    """The current clock of each core, in MHz."""
    found = [_read_number(core / "cpufreq/scaling_cur_freq") for _, core in list_numbered(root / CPUS, "cpu")]
    return [clock / 1e3 for clock in found if clock is not None] or None


def read_temperatures(root: Path = ROOT) -> dict[str, float] | None:
    """Temperatures in degrees Celsius, by zone."""
    found: dict[str, float] = {}
    for number, zone in list_numbered(root / THERMAL, "thermal_zone"):
        value = _read_number(zone / "temp")
        name = read_text(zone / "type") or "zone"
        if value is not None and -100_000 < value < 300_000:
            found[f"{name} {number}" if name in found else name] = value / 1e3
    return found or None


def count_throttling(root: Path = ROOT) -> int | None:
    """How often clocks were reduced because of heat or power since the start; None: the machine does not count it."""
    names = ("core_throttle_count", "package_throttle_count")
    cores = [core / "thermal_throttle" for _, core in list_numbered(root / CPUS, "cpu")]
    found = [_read_number(core / name) for core in cores for name in names]
    known = [int(value) for value in (*found, jetson.count_overcurrent(root)) if value is not None]
    return sum(known) if known else None


def is_throttled(before: int | None, after: int | None) -> bool | None:
    """Whether clocks were reduced between two calls of `count_throttling`; None: not known."""
    return None if before is None or after is None else after > before


def read_power_modes(root: Path = ROOT) -> dict[str, str]:
    """The power modes of the machine, if it has any."""
    return jetson.read_power_modes() if jetson.is_jetson(root) else {}


def _read_number(path: Path) -> float | None:
    try:
        return float(read_text(path) or "")
    except ValueError:
        return None
