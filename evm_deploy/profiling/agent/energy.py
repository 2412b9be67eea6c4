"""Measures energy on machines that count it. A meter counts joules and never decreases."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import tegrastats
from .machine import ROOT, read_text

IDLE_SECONDS = 1.0
RUN_SECONDS, RUNS = 2.0, 3  # minimum for a contender alone


class Rapl:
    """The RAPL counters of Intel and AMD processors under /sys/class/powercap: packages and their memory.

    They wrap around, so they must be read at least once a minute.
    """

    source = "rapl"

    def __init__(self, domains: list[tuple[Path, int]]) -> None:
        self._domains = domains
        self._last = [self._read(path) for path, _ in domains]
        self._sum = 0

    @classmethod
    def open(cls, root: Path = ROOT) -> Rapl | None:
        """Opens the counters. None: there are none, or this user may not read them."""
        domains = []
        for folder in sorted((root / "sys/class/powercap").glob("intel-rapl:*")):
            name, most = read_text(folder / "name") or "", read_text(folder / "max_energy_range_uj") or ""
            counted = (
                name.startswith("package-") or name == "dram"
            )  # core and uncore are already counted in their package
            if counted and most.isdigit() and (read_text(folder / "energy_uj") or "").isdigit():
                domains.append((folder, int(most)))
        return cls(domains) if any(not folder.name.count(":") > 1 for folder, _ in domains) else None

    def joules(self) -> float:
        """Joules since the counters were opened."""
        for index, (path, most) in enumerate(self._domains):
            now = self._read(path)
            self._sum += (now - self._last[index]) % (most + 1)
            self._last[index] = now
        return self._sum / 1e6

    def close(self) -> None:
        """Does nothing: there is nothing to free."""

    def _read(self, path: Path) -> int:
        return int(read_text(path / "energy_uj") or 0)


METERS: list[Callable[[Path], Any | None]] = [tegrastats.Tegrastats.open, Rapl.open]


def find_meter(root: Path = ROOT) -> Any | None:
    """Opens the first meter that this machine has. A meter has `source`, `joules()` and `close()`."""
    return next((found for found in (make(root) for make in METERS) if found is not None), None)


def measure_idle_watts(meter: Any, seconds: float = IDLE_SECONDS) -> float:
    """The power of the idle machine, in watts."""
    begun, joules = time.perf_counter(), meter.joules()
    time.sleep(seconds)
    return float((meter.joules() - joules) / (time.perf_counter() - begun))


def measure_runs(meter: Any, idle: float, call: Callable[[], object], seconds: float = RUN_SECONDS) -> dict[str, Any]:
    """`Energy` of the report: runs one contender repeatedly. Energy below that of the idle machine counts as 0."""
    call()
    begun, joules, runs = time.perf_counter(), meter.joules(), 0
    while runs < RUNS or time.perf_counter() - begun < seconds:
        call()
        runs += 1
    passed = time.perf_counter() - begun
    watts = (meter.joules() - joules) / passed
    return {
        "source": meter.source,
        "joules": max(0.0, watts - idle) * passed / runs,
        "watts": watts,
        "idle_watts": idle,
    }
