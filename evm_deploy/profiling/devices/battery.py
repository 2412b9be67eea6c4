"""Measures the energy of an inference with the battery of a phone that is not plugged in."""

from __future__ import annotations

import dataclasses
import statistics
import threading
import time
from collections.abc import Callable, Sequence

from evm_deploy.errors import DeviceError
from evm_deploy.profiling.devices import android
from evm_deploy.profiling.report import Energy, Result

LEAST = 5  # minimum samples of the idle phone, and of the phone at work
SECONDS = 1.0  # between two samples; the phone's meter is not faster
PLUGGED = "no energy: the phone was plugged in (`adb tcpip` connects it without a cable)"
SILENT = "no energy: the phone does not report the power of its battery"
SHORT = "no energy: the measurement was too short for the battery's meter"
SEVERAL = "no energy: the battery's meter cannot separate contenders that take turns; measure one alone"


class BatteryMeter:
    """The power of the battery: of the idle phone before the block, and of the phone at work inside it."""

    def __init__(self, attempt: android.Attempt, discharging: bool, say: Callable[[str], None]) -> None:
        self._attempt, self._discharging, self._say = attempt, discharging, say
        self._idle: list[float] = []
        self._work: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> BatteryMeter:
        if self._discharging and android.read_watts(self._attempt) is not None:
            self._say("measuring the idle phone")
            for _ in range(LEAST):
                time.sleep(SECONDS)
                self._sample(self._idle)
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def add_energy(self, results: Sequence[Result]) -> tuple[Result, ...]:
        """Adds to the results the energy of an inference, or a note that says why there is none."""
        if why := self._explain_missing(results):
            return tuple(dataclasses.replace(one, notes=(*one.notes, why)) for one in results)
        (result,) = results
        watts, idle = statistics.median(self._work), statistics.median(self._idle)
        seconds = statistics.fmean(result.samples_ms) / 1e3
        energy = Energy("battery", max(0.0, watts - idle) * seconds, watts, idle)
        return (dataclasses.replace(result, energy=energy),)

    def _explain_missing(self, results: Sequence[Result]) -> str | None:
        if not self._discharging:
            return PLUGGED
        if len(self._idle) < LEAST:
            return SILENT
        if len(results) > 1 or not results[0].samples_ms:
            return SEVERAL
        return SHORT if len(self._work) < LEAST else None

    def _watch(self) -> None:
        while not self._over.wait(SECONDS):
            try:
                self._sample(self._work)
            except DeviceError:
                return  # the measurement will raise the same error

    def _sample(self, samples: list[float]) -> None:
        watts = android.read_watts(self._attempt)
        if watts is not None:
            samples.append(watts)
