"""Measures a contender alone in a new process: loading, the first inference, the golden pair, memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import memory
from .bundle_files import Unmeasurable, check_bundle, compute_relative_error
from .runners import take_first_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .request import AgentContender, AgentRequest
    from .runners import Rows

RUNS = 3  # after the first; enough for the memory to reach its peak
MOST_SECONDS = 1800.0


def measure_alone(contender: AgentContender, request: AgentRequest, rows: Rows) -> dict[str, Any]:
    """Measures the contender in this process. Returns fields of a result. Raises Unmeasurable."""
    row = rows[contender.runner]
    assert row.open is not None
    versions = row.prepare()
    base = memory.read_current()
    bundle = check_bundle(contender.folder, contender.sha256)
    image, expected = bundle.read_golden()
    begun = time.perf_counter()
    runner = row.open(contender, bundle, request)
    loaded = time.perf_counter()
    found = runner.call(image)
    first = time.perf_counter()
    for _ in range(RUNS):
        runner.call(image)
    error = compute_relative_error(found, expected)
    peak = memory.read_peak()
    return {
        "runtime": runner.name,
        "provider": runner.provider,
        "golden": {"relative_error": error, "tolerance": contender.tolerance, "passed": is_passed(error, contender)},
        "load_ms": 1e3 * (loaded - begun),
        "first_ms": 1e3 * (first - loaded),
        "memory": None if peak is None else {"peak_bytes": peak, "base_bytes": base},
        "versions": versions,
    }


def is_passed(error: Any, contender: AgentContender) -> bool:
    """Whether the error on the golden pair is within the tolerance."""
    return error is not None and error <= contender.tolerance


def run_child(contender: AgentContender, request: AgentRequest, rows: Rows, out: Path) -> int:
    """Runs in the new process: writes the result of `measure_alone`, or the error, to `out`."""
    try:
        found = measure_alone(contender, request, rows)
    except Unmeasurable as error:
        found = {"error": str(error)}
    except Exception as error:  # a runtime may raise anything
        found = {"error": take_first_line(error)}
    out.write_text(json.dumps(found), encoding="utf-8")
    return 0


def start_child(command: Sequence[str], path: Path, index: int) -> dict[str, Any]:
    """Runs the new process. Returns the fields that it found, or `error`, for example if a signal ended it."""
    with tempfile.TemporaryDirectory(prefix="evm-agent-") as folder:
        out = Path(folder) / "alone.json"
        whole = [sys.executable, *command, "--alone", str(index), str(path), str(out)]
        try:
            done = subprocess.run(
                whole, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=MOST_SECONDS
            )
        except subprocess.TimeoutExpired:
            return {"error": f"it did not load and run within {MOST_SECONDS:.0f} s"}
        if done.returncode == 0 and out.is_file():
            found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
            return found
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        how = f"signal {-done.returncode}" if done.returncode < 0 and os.name == "posix" else "an error"
        return {"error": ": ".join([f"the process that ran it ended with {how}", *said])[:500]}
