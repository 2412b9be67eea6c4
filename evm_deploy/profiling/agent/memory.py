"""The memory of this process."""

from __future__ import annotations

import sys
from pathlib import Path


def peak(root: Path = Path("/")) -> int | None:
    """Most bytes that this process has held; None where the system does not tell.

    On Linux of this program alone: getrusage would count what its parent held when it was started.
    """
    return _status(root).get("VmHWM") or _usage()


def held(root: Path = Path("/")) -> int | None:
    """Bytes that this process holds now, or has held at most where the system tells no more."""
    return _status(root).get("VmRSS") or _usage()


def _status(root: Path) -> dict[str, int]:
    """Of /proc/self/status the sizes, in bytes."""
    try:
        lines = (root / "proc/self/status").read_text().splitlines()
    except OSError:
        return {}
    rows = [text.split() for text in lines if text.endswith(" kB")]
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if row[1].isdigit()}


def _usage() -> int | None:
    try:
        import resource
    except ImportError:
        return _windows()
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else size * 1024


def _windows() -> int | None:
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
