"""Energy, where the machine counts it. A meter is a counter of joules that only grows."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import tegrastats
from .machine import ROOT, text

IDLE_SECONDS = 1.0
RUN_SECONDS, RUNS = 2.0, 3  # a contender alone, at least


class Rapl:
    """The counters of Intel's and AMD's processors (RAPL) under /sys/class/powercap: packages, and their memory.

    They wrap around; one that is read at least once a minute is not missed.
    """

    source = "rapl"

    def __init__(self, domains: list[tuple[Path, int]]) -> None:
        self._domains = domains
        self._last = [self._read(path) for path, _ in domains]
        self._sum = 0

    @classmethod
    def found(cls, root: Path = ROOT) -> Rapl | None:
        """None where there is none, or this user may not read it."""
        domains = []
        for folder in sorted((root / "sys/class/powercap").glob("intel-rapl:*")):
            name, most = text(folder / "name") or "", text(folder / "max_energy_range_uj") or ""
            counted = name.startswith("package-") or name == "dram"  # core and uncore are parts of a package
            if counted and most.isdigit() and (text(folder / "energy_uj") or "").isdigit():
                domains.append((folder, int(most)))
        return cls(domains) if any(not folder.name.count(":") > 1 for folder, _ in domains) else None

    def joules(self) -> float:
        """Since it was opened."""
        for index, (path, most) in enumerate(self._domains):
            now = self._read(path)
            self._sum += (now - self._last[index]) % (most + 1)
            self._last[index] = now
        return self._sum / 1e6

    def close(self) -> None:
        """Nothing to free."""

    def _read(self, path: Path) -> int:
        return int(text(path / "energy_uj") or 0)


METERS: list[Callable[[Path], Any | None]] = [tegrastats.Meter.found, Rapl.found]


def meter(root: Path = ROOT) -> Any | None:
    """The first that this machine has: `source`, `joules()`, `close()`."""
    return next((found for found in (make(root) for make in METERS) if found is not None), None)


def idle_watts(meter: Any, seconds: float = IDLE_SECONDS) -> float:
    """Of the machine doing nothing."""
    begun, joules = time.perf_counter(), meter.joules()
    time.sleep(seconds)
    return float((meter.joules() - joules) / (time.perf_counter() - begun))


def of_runs(meter: Any, idle: float, call: Callable[[], object], seconds: float = RUN_SECONDS) -> dict[str, Any]:
    """`Energy` of the report: a contender alone, again and again. What it takes below idle is none."""
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
