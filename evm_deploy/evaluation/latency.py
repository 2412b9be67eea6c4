"""Measures the latency of the contenders, which take turns in one process, on this machine."""

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evm_deploy.data.samples import LabelledInput, Samples
from evm_deploy.evaluation.conditions import read_conditions
from evm_deploy.evaluation.contenders import Contender
from evm_deploy.evaluation.running import answer
from evm_deploy.manifest import Preprocessing
from evm_deploy.profiling.agent import timing


@dataclass(frozen=True)
class Latency:
    """Milliseconds per run, one image at a time: the median and the quartiles."""

    median: float
    low: float
    high: float
    runs: int


def measure_latency(
    contenders: Sequence[Contender], samples: Mapping[Preprocessing, Samples], runs: int
) -> tuple[Latency | None, ...]:
    """Times every contender on the first image that can be read, in turns. None for one that is only simulated here."""
    inputs = {preprocessing: _load_first(each) for preprocessing, each in samples.items()}
    calls: dict[str, Callable[[], object]] = {}
    with contextlib.ExitStack() as stack:
        for index, one in enumerate(contenders):
            runner, sample = stack.enter_context(one.open()), inputs[one.preprocessing]
            if runner.untimed is None:
                answer(one, runner, sample)  # a model without an answer is not timed
                calls[str(index)] = functools.partial(runner.run, sample.input)
        times = timing.time_interleaved(calls, runs)
    return tuple(_summarise(times.get(str(index))) for index in range(len(contenders)))


def describe_conditions() -> dict[str, Any]:
    """The conditions of the measurement."""
    return read_conditions() | {"threads": "as many as each runtime chooses"}


def _load_first(samples: Samples) -> LabelledInput:
    return next(sample for index in range(len(samples)) if (sample := samples.load(index)) is not None)


def _summarise(times: Sequence[float] | None) -> Latency | None:
    if not times:
        return None
    low, median, high = timing.compute_quartiles(times)
    return Latency(median, low, high, len(times))
