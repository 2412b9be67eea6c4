"""The power meter of a Jetson: its program tegrastats, which prints what the board draws again and again."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from .jetson import Reading, present, reading

INTERVAL_MS = 100
START_SECONDS = 3.0  # for the first line
SILENT_SECONDS = 1.0  # after which it has stopped, and says nothing about the power
LINE = 1 << 14  # bytes of a line that are read


class Meter:
    """tegrastats while it runs: the energy that the module has drawn since the meter was started."""

    source = "tegrastats"

    def __init__(self, command: Sequence[str]) -> None:
        """Raises OSError where there is no such program."""
        self.last: Reading | None = None
        self._state = (0.0, 0.0, 0.0)  # joules until a moment, that moment, and watts from then on
        self._measured = threading.Event()
        self._process = subprocess.Popen(
            [*command, "--interval", str(INTERVAL_MS)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @classmethod
    def found(cls, root: Path = Path("/")) -> Meter | None:
        """None where this is no Jetson, or its tegrastats tells this user no power."""
        program = shutil.which("tegrastats") if present(root) else None
        return None if program is None else cls.measuring([program])

    @classmethod
    def measuring(cls, command: Sequence[str], seconds: float = START_SECONDS) -> Meter | None:
        """A meter that has measured something, or None."""
        try:
            meter = cls(command)
        except OSError:
            return None
        if meter._measured.wait(seconds):
            return meter
        meter.close()
        return None

    def joules(self) -> float:
        """Since the first line; between two lines the power is that of the one before."""
        total, since, watts = self._state
        return total + watts * min(time.perf_counter() - since, SILENT_SECONDS)

    def close(self) -> None:
        """Ends tegrastats."""
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._thread.join(5)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as pipe:
            for line in iter(lambda: pipe.readline(LINE), b""):
                self._add(time.perf_counter(), reading(line.decode("utf-8", "replace")))

    def _add(self, now: float, found: Reading) -> None:
        self.last = found
        if found.watts is None:
            return
        total, since, watts = self._state
        self._state = (total + watts * (now - since), now, found.watts)
        self._measured.set()
