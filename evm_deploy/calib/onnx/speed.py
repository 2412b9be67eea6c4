"""Compares the latency of an integer graph with that of the float one, on this machine."""

import functools
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evm_deploy.profiling.agent import timing
from evm_deploy.profiling.bootstrap import estimate_intervals
from evm_deploy.runtimes.onnxruntime import OnnxRunner

WARM_UP, ROUNDS = 3, 25


@dataclass(frozen=True)
class Speed:
    """Medians of interleaved runs on one thread, in milliseconds; the median of the ratios of neighbours, and its 95 %
    interval.
    """

    float_ms: float
    integer_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float

    def describe(self) -> str:
        """The result in words, with a remark if int8 is not faster."""
        interval = f"{self.ratio:.2f} [{self.ratio_low:.2f}, {self.ratio_high:.2f}]"
        times = f"{self.integer_ms:.1f} and {self.float_ms:.1f} ms, 1 thread"
        said = f"int8 takes {interval} of the float latency here ({times})"
        if self.ratio_high < 1:
            return said
        verdict = "it is slower" if self.ratio_low > 1 else "it is not faster"
        return f"{said}: {verdict}, ship the float bundle on machines like this one"


def compare_speed(float_: OnnxRunner, integer: OnnxRunner, image: npt.NDArray[Any]) -> Speed:
    """Times both in turns on one image."""
    calls = [functools.partial(runner.run, image) for runner in (float_, integer)]
    pairs = np.array(list(itertools.islice(timing.run_turns(calls), WARM_UP, WARM_UP + ROUNDS)))
    ratio = estimate_intervals(pairs[:, 1] / pairs[:, 0], (0.5,))[1]
    float_ms, integer_ms = np.median(pairs, axis=0)
    return Speed(float(float_ms), float(integer_ms), ratio.value, ratio.low, ratio.high)
