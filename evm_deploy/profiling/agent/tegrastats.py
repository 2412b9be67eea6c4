"""The power meter of a Jetson: the program tegrastats, which repeatedly prints the power of the board."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from .jetson import Reading, is_jetson, parse_line

INTERVAL_MS = 100
START_SECONDS = 3.0  # time to wait for the first line
SILENT_SECONDS = 1.0  # without a line for this long, the power counts as unknown
LINE = 1 << 14  # longest line that is read, in bytes


class Tegrastats:
    """A running tegrastats, which gives the energy that the module has used since the start of the meter."""

    source = "tegrastats"

    def __init__(self, command: Sequence[str]) -> None:
        """Starts the program. Raises OSError: it does not exist."""
        self.last: Reading | None = None
        self._state = (0.0, 0.0, 0.0)  # joules up to a time, that time, and watts since then
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
    def open(cls, root: Path = Path("/")) -> Tegrastats | None:
        """Opens the meter. None: this is not a Jetson, or its tegrastats shows this user no power."""
        program = shutil.which("tegrastats") if is_jetson(root) else None
        return None if program is None else cls.start([program])

    @classmethod
    def start(cls, command: Sequence[str], seconds: float = START_SECONDS) -> Tegrastats | None:
        """Starts a meter and waits for its first measurement. None: there was none."""
        try:
            meter = cls(command)
        except OSError:
            return None
        if meter._measured.wait(seconds):
            return meter
        meter.close()
        return None

    def joules(self) -> float:
        """Joules since the first line; between two lines, the power is that of the earlier one."""
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
                self._add(time.perf_counter(), parse_line(line.decode("utf-8", "replace")))

    def _add(self, now: float, found: Reading) -> None:
        self.last = found
        if found.watts is None:
            return
        total, since, watts = self._state
        self._state = (total + watts * (now - since), now, found.watts)
        self._measured.set()
