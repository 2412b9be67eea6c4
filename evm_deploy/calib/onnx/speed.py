"""Compares the latency of an integer graph with that of the float one, on this machine."""

import functools
import itertools
import statistics
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from evm_deploy.profiling.agent import timing
from evm_deploy.runtimes.onnxruntime import OnnxRunner

WARM_UP, ROUNDS = 3, 25


@dataclass(frozen=True)
class Speed:
    """Medians of interleaved runs on one thread, in milliseconds, and the median of the ratios of neighbours."""

    float_ms: float
    integer_ms: float
    ratio: float

    def describe(self) -> str:
        """The result in words, with a remark if int8 is not faster."""
        times = f"{self.integer_ms:.1f} and {self.float_ms:.1f} ms, 1 thread"
        said = f"int8 takes {self.ratio:.2f} of the float latency here ({times})"
        return said if self.ratio < 1 else f"{said}: ship the float bundle on machines like this one"


def compare_speed(float_: OnnxRunner, integer: OnnxRunner, image: npt.NDArray[Any]) -> Speed:
    """Times both in turns on one image."""
    calls = [functools.partial(runner.run, image) for runner in (float_, integer)]
    pairs = list(itertools.islice(timing.run_turns(calls), WARM_UP, WARM_UP + ROUNDS))
    floats, integers = zip(*pairs, strict=True)
    ratio = statistics.median(after / before for before, after in pairs)
    return Speed(statistics.median(floats), statistics.median(integers), ratio)
