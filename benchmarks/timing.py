"""Timing that survives a shared machine: contenders take turns in one process, and medians are compared."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def interleaved(contenders: Mapping[str, Callable[[], object]], rounds: int, settle: int = 1) -> dict[str, list[float]]:
    """Milliseconds of each call of each contender, `rounds` of each, in turns: A B C, A B C, ...

    A turn is `settle` calls that are not timed, which bring back the caches that the others took, and one that is.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            for _ in range(settle):
                call()
            start = time.perf_counter()
            call()
            times[name].append(1e3 * (time.perf_counter() - start))
    return times


def quartiles(times: list[float]) -> tuple[float, float, float]:
    """The 25th, 50th and 75th percentile."""
    low, middle, high = statistics.quantiles(times, n=4)
    return low, middle, high


def conditions() -> dict[str, Any]:
    """What a figure is worth nothing without."""
    import onnxruntime
    import torch

    from evm_deploy.scan import native

    model = next(
        (line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.processor()
    )
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "kernel": native.isa() if native.available() else None,
        "onnxruntime": onnxruntime.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Rows of equal keys as a Markdown table."""
    heads = list(rows[0])
    lines = [heads, ["---"] * len(heads)] + [[_cell(row[head]) for head in heads] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def save(path: Path, rows: list[dict[str, Any]], **more: Any) -> None:
    """Writes the rows and their conditions as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"conditions": conditions(), **more, "rows": rows}, indent=2) + "\n")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []
