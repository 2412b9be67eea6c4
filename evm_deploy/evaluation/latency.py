"""How long one run takes on this machine: contenders take turns in one process, and medians are compared."""

import contextlib
import os
import platform
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evm_deploy.data.samples import Sample, Samples
from evm_deploy.evaluation.contenders import Contender
from evm_deploy.evaluation.running import scores
from evm_deploy.manifest import Preprocessing

SIMULATED = "mil evaluator"  # its time says nothing of Core ML's


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one run, one image at a time: the median, and the quartiles beside it."""

    median: float
    low: float
    high: float
    runs: int


def measure(
    contenders: Sequence[Contender], samples: Mapping[Preprocessing, Samples], runs: int
) -> tuple[Latency | None, ...]:
    """Times every contender on the first image that can be read, in turns: A B C, A B C, ...

    A turn is a run that is not timed, which brings back the caches that the others took, and one that is. None for a
    contender that is only simulated here.
    """
    inputs = {preprocessing: _first(each) for preprocessing, each in samples.items()}
    times: list[list[float]] = [[] for _ in contenders]
    with contextlib.ExitStack() as stack:
        runners = [stack.enter_context(one.opened()) for one in contenders]
        turns = [turn for turn in zip(contenders, runners, times, strict=True) if turn[1].name != SIMULATED]
        for _ in range(runs):
            for one, runner, mine in turns:
                sample = inputs[one.preprocessing]
                scores(one, runner, sample)
                start = time.perf_counter()
                runner.run(sample.input)
                mine.append(1e3 * (time.perf_counter() - start))
    return tuple(_summary(mine) if mine else None for mine in times)


def conditions() -> dict[str, Any]:
    """What a time is worth nothing without."""
    import onnxruntime
    import torch

    from evm_deploy.scan import native

    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "cpu": _cpu(),
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "threads": "as many as each runtime chooses",
        "kernel": native.isa() if native.available() else None,
        "onnxruntime": onnxruntime.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _first(samples: Samples) -> Sample:
    return next(sample for index in range(len(samples)) if (sample := samples.load(index)) is not None)


def _summary(times: Sequence[float]) -> Latency:
    low, middle, high = statistics.quantiles(times, n=4) if len(times) > 1 else 3 * [times[0]]
    return Latency(middle, low, high, len(times))


def _cpu() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
