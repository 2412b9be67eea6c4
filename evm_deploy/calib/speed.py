"""How long an integer graph takes against the float one, on this machine."""

import statistics
import time
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from evm_deploy.runtimes.onnxruntime import OnnxRunner

WARM_UP, ROUNDS = 3, 25


@dataclass(frozen=True)
class Speed:
    """Medians of interleaved runs on one thread, in milliseconds, and the median of the ratios of neighbours."""

    float_ms: float
    integer_ms: float
    ratio: float

    def line(self) -> str:
        """For people; it says so where integers do not pay."""
        times = f"{self.integer_ms:.1f} and {self.float_ms:.1f} ms, 1 thread"
        said = f"int8 takes {self.ratio:.2f} of the float latency here ({times})"
        return said if self.ratio < 1 else f"{said}: ship the float bundle on machines like this one"


def compare_speed(float_: OnnxRunner, integer: OnnxRunner, image: npt.NDArray[Any]) -> Speed:
    """Runs both in turns, each twice, of which the second run counts: the first brings back its caches."""
    pairs = [(_once(float_, image), _once(integer, image)) for _ in range(WARM_UP + ROUNDS)][WARM_UP:]
    floats, integers = zip(*pairs, strict=True)
    ratios = [b / a for a, b in pairs]
    return Speed(1e3 * statistics.median(floats), 1e3 * statistics.median(integers), statistics.median(ratios))


def _once(runner: OnnxRunner, image: npt.NDArray[Any]) -> float:
    runner.run(image)
    start = time.perf_counter()
    runner.run(image)
    return time.perf_counter() - start
