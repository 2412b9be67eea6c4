"""A contender in a fresh process of its own: what it takes to load, its first inference, the golden pair, memory."""

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
from .bundle_files import Refused, check, relative_error
from .runners import line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .request import Contender, Request
    from .runners import Rows

RUNS = 3  # after the first: what grows does so by then
MOST_SECONDS = 1800.0


def measure(contender: Contender, request: Request, rows: Rows) -> dict[str, Any]:
    """Fields of a result. Raises Refused."""
    row = rows[contender.runner]
    assert row.open is not None
    versions = row.prepare()
    base = memory.held()
    bundle = check(contender.folder, contender.sha256)
    image, expected = bundle.golden()
    begun = time.perf_counter()
    runner = row.open(contender, bundle, request)
    loaded = time.perf_counter()
    found = runner.call(image)
    first = time.perf_counter()
    for _ in range(RUNS):
        runner.call(image)
    error = relative_error(found, expected)
    peak = memory.peak()
    return {
        "runtime": runner.name,
        "provider": runner.provider,
        "golden": {"relative_error": error, "tolerance": contender.tolerance, "passed": passed(error, contender)},
        "load_ms": 1e3 * (loaded - begun),
        "first_ms": 1e3 * (first - loaded),
        "memory": None if peak is None else {"peak_bytes": peak, "base_bytes": base},
        "versions": versions,
    }


def passed(error: Any, contender: Contender) -> bool:
    """Whether the golden pair is met."""
    return error is not None and error <= contender.tolerance


def child(contender: Contender, request: Request, rows: Rows, out: Path) -> int:
    """The fresh process: writes what `measure` found, or why not, to `out`."""
    try:
        found = measure(contender, request, rows)
    except Refused as error:
        found = {"error": str(error)}
    except Exception as error:  # of a runtime, which raises what it likes
        found = {"error": line(error)}
    out.write_text(json.dumps(found), encoding="utf-8")
    return 0


def start(command: Sequence[str], path: Path, index: int) -> dict[str, Any]:
    """Runs it; the fields that it found, or `error`, as for a process that a signal ended."""
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
