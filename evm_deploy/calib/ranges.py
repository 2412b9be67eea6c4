"""Chooses the range that the integers of a tensor cover, from its statistics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from evm_deploy.calib.grid import Grid, compute_divergence, compute_squared_error
from evm_deploy.calib.statistics import HALF, Floats, TensorStatistics
from evm_deploy.errors import OptionError, check_choice

BINS = 2048  # of the histogram, where candidates are compared
CLIPPED = 0.01  # the largest share of the values that "entropy" may leave out
SMALLEST = 2.0**-60  # narrowest range: smaller ones have scales whose products float32 cannot hold
COARSE = 2.0 ** (-np.arange(0, 41) / 4)  # shares of the largest range that are tried first, down to a thousandth
FINE = 2.0 ** (np.arange(7, -8, -1) / 32)  # shares that are tried next, around the best of those
WIDE = 2.0 ** (np.arange(16, -33, -1) / 4)  # shares of one side, while the other is fixed


@dataclass(frozen=True)
class Range:
    """The range that integers must cover. It contains zero, and is wide enough for a scale."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (self.low <= 0 <= self.high and np.isfinite(self.high - self.low)):
            raise ValueError(f"{self.low} to {self.high} is not a range around zero")


@dataclass(frozen=True)
class RangeOptions:
    """The number of integers (`levels`), whether they are symmetric, and the share, in %, that "percentile" covers."""

    symmetric: bool
    levels: int = 256
    percentile: float = 99.99


def choose_range(
    statistics: TensorStatistics,
    method: str,
    *,
    symmetric: bool,
    levels: int = 256,
    percentile: float = 99.99,
) -> Range:
    """Chooses the range of a tensor by one of METHODS. Symmetric ranges are from -t to t, whatever the values' sign.

    A tensor that was always zero gets 0 to 1, or -1 to 1, since any scale represents it. Ranges narrower than 2**-60
    are widened to that. If a method would cut off everything but zero, the range is that of "minmax".

    Raises OptionError for a method that does not exist, and for statistics without an image.
    """
    check_choice("method", method, METHODS)
    if not statistics.count:
        raise OptionError("a tensor was never seen.", "calibrate with one image at least.")
    if statistics.low == statistics.high == 0:
        return Range(-1.0 if symmetric else 0.0, 1.0)
    whole = _include_zero(statistics.low, statistics.high, symmetric)
    found = _include_zero(*METHODS[method](statistics, RangeOptions(symmetric, levels, percentile)), symmetric)
    low, high = max(found[0], whole[0]), min(found[1], whole[1])
    if high - low < statistics.limit / HALF:  # less than a bin: nearly all is zero, and the method cut the rest off
        low, high = whole
    if high - low < SMALLEST:
        low, high = (-SMALLEST if low < 0 else 0.0), (SMALLEST if high > 0 else 0.0)
    return Range(low, high)


def _include_zero(low: float, high: float, symmetric: bool) -> tuple[float, float]:
    low, high = min(low, 0.0), max(high, 0.0)
    return (min(low, -high), max(high, -low)) if symmetric else (low, high)


def _choose_by_minmax(statistics: TensorStatistics, request: RangeOptions) -> tuple[float, float]:
    return statistics.low, statistics.high


def _choose_by_moving_average(statistics: TensorStatistics, request: RangeOptions) -> tuple[float, float]:
    return statistics.moving_low, statistics.moving_high


def _choose_by_percentile(statistics: TensorStatistics, request: RangeOptions) -> tuple[float, float]:
    """Leaves out as many values below as above; for a symmetric range, those of the largest magnitude."""
    share = request.percentile / 100
    histogram = statistics.histogram(folded=request.symmetric)
    if request.symmetric:
        return 0.0, _interpolate_quantile(*histogram, share)
    return _interpolate_quantile(*histogram, (1 - share) / 2), _interpolate_quantile(*histogram, (1 + share) / 2)


def _interpolate_quantile(edges: Floats, counts: Floats, share: float) -> float:
    reached = np.concatenate([[0.0], np.cumsum(counts)])
    return float(np.interp(share * reached[-1], reached, edges))


def _choose_by_mse(statistics: TensorStatistics, request: RangeOptions) -> tuple[float, float]:
    """Minimises the expected squared error of rounding and clipping."""
    edges, counts = statistics.histogram(BINS)

    def cost(low: float, high: float) -> float:
        return compute_squared_error(edges, counts, Grid.from_range(low, high, request.levels, request.symmetric))

    return _search(statistics, request.symmetric, cost)


def _choose_by_entropy(statistics: TensorStatistics, request: RangeOptions) -> tuple[float, float]:
    """Minimises the relative entropy, over ranges that have at least a bin for each integer and hold nearly all values.

    (A range below most values would look good: clipped values lie at its end, and the few others may lie there too.)
    """
    edges, counts = statistics.histogram(BINS, folded=request.symmetric)
    counts = _flatten_peak_at_zero(edges, counts)
    levels = request.levels // 2 if request.symmetric else request.levels
    least = levels * float(np.diff(edges).max())

    def cost(low: float, high: float) -> float:
        if (high if request.symmetric else high - low) < least:
            return np.inf
        outside = (edges[1:] > high) | (edges[:-1] < low)
        if counts[outside].sum() > CLIPPED * counts.sum():
            return np.inf
        return compute_divergence(edges, counts, Grid.from_range(low, high, request.levels, request.symmetric))

    return _search(statistics, request.symmetric, cost)


def _flatten_peak_at_zero(edges: Floats, counts: Floats) -> Floats:
    """Limits the bins at zero to the larger one beside them: every grid represents zero exactly, so the number of zeros
    must not count.
    """
    at_zero = (edges[:-1] == 0) | (edges[1:] == 0)
    beside = (np.roll(at_zero, 1) | np.roll(at_zero, -1)) & ~at_zero
    if not at_zero.any() or not beside.any():
        return counts
    return np.where(at_zero, np.minimum(counts, counts[beside].max()), counts)


def _search(
    statistics: TensorStatistics, symmetric: bool, cost: Callable[[float, float], float]
) -> tuple[float, float]:
    """The ends with the least cost: first both sides together, then each in turn. Of equal ranges, the widest."""
    low, high = min(statistics.low, 0.0), max(statistics.high, 0.0)
    if symmetric:
        low, high = -max(-low, high), max(-low, high)
    for shares in (COARSE, FINE):
        share = shares[np.argmin([cost(low * share, high * share) for share in shares])]
        low, high = low * share, high * share
    if symmetric or low == 0 or high == 0:
        return low, high
    for shares in (WIDE, FINE):
        high *= shares[np.argmin([cost(low, high * share) for share in shares])]
        low *= shares[np.argmin([cost(low * share, high) for share in shares])]
    return low, high


METHODS: dict[str, Callable[[TensorStatistics, RangeOptions], tuple[float, float]]] = {
    "mse": _choose_by_mse,
    "percentile": _choose_by_percentile,
    "entropy": _choose_by_entropy,
    "minmax": _choose_by_minmax,
    "moving-average": _choose_by_moving_average,
}
