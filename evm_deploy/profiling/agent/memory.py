"""The memory of this process."""

from __future__ import annotations

import sys
from pathlib import Path


def read_peak(root: Path = Path("/")) -> int | None:
    """The peak memory of this process in bytes; None: not known.

    On Linux, it is read from /proc: getrusage would include the memory of the parent at the time of the start.
    """
    return _read_status(root).get("VmHWM") or _read_usage()


def read_current(root: Path = Path("/")) -> int | None:
    """The current memory of this process in bytes, or its peak where the system tells no more."""
    return _read_status(root).get("VmRSS") or _read_usage()


def _read_status(root: Path) -> dict[str, int]:
    """The sizes in /proc/self/status, in bytes."""
    try:
        lines = (root / "proc/self/status").read_text().splitlines()
    except OSError:
        return {}
    rows = [text.split() for text in lines if text.endswith(" kB")]
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if row[1].isdigit()}


def _read_usage() -> int | None:
    try:
        import resource
    except ImportError:
        return _read_windows_peak()
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else size * 1024


def _read_windows_peak() -> int | None:
    import ctypes

    class Counters(ctypes.Structure):
        _fields_ = (
            ("cb", ctypes.c_uint32),
            ("faults", ctypes.c_uint32),
            *((name, ctypes.c_size_t) for name in "peak held a b c d pagefile e".split()),
        )

    counters = Counters(cb=ctypes.sizeof(Counters))
    try:
        kernel = ctypes.WinDLL("kernel32")  # type: ignore[attr-defined,unused-ignore]
        kernel.GetCurrentProcess.restype = ctypes.c_void_p
        call = kernel.K32GetProcessMemoryInfo
        call.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32]
        found = call(kernel.GetCurrentProcess(), ctypes.byref(counters), counters.cb)
    except (AttributeError, OSError):
        return None
    return int(counters.peak) if found else None
