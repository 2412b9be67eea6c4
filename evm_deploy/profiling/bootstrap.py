"""Bootstrap intervals for statistics of times.

Consecutive runs are correlated (clocks, other programs), so whole blocks of runs are resampled. Resampling single
runs would treat them as independent and give intervals that are too narrow.
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from evm_deploy.profiling.report import Interval

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LEVEL = 0.95
SEED = 0
DRAWS = 1000
WORK = 10_000_000  # limit on samples processed: with very many samples, fewer draws are enough
LEAST_DRAWS = 200
AT_ONCE = 1_000_000  # samples processed at a time
LEAST_ROUNDS = 4


@dataclass(frozen=True)
class Draws:
    """Statistics of the drawn series: mean and quantiles, (draws, 1 + quantiles); and the number of blocks."""

    found: Floats
    blocks: float

    def find_interval(self, column: int) -> tuple[float, float]:
        """The 95 % interval of a column.

        It is widened for few blocks, as an interval by Student's t is wider than one by the normal distribution
        (Hesterberg 2014, the expanded percentile interval).
        """
        free = max(self.blocks - 1, 2.0)
        z = NormalDist().inv_cdf((1 + LEVEL) / 2)
        t = z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
        tail = NormalDist().cdf(-t * (1 + 1 / free) ** 0.5)
        low, high = np.quantile(self.found[:, column], (tail, 1 - tail))
        return float(low), float(high)


def estimate_intervals(samples: Floats, quantiles: tuple[float, ...], rounds: int = 1) -> tuple[Interval, ...]:
    """Estimates the mean of (n,) ordered samples, and each quantile (0 to 1, linear), with 95 % intervals.

    rounds: the number of rounds of equal length, for each of which the model was opened again. If there are several,
    whole rounds are resampled.
    """
    values = [float(value) for value in (samples.mean(), *np.quantile(samples, quantiles))]
    drawn = draw_series(samples, quantiles, rounds)
    return tuple(_make_interval(value, *drawn.find_interval(column)) for column, value in enumerate(values))


def estimate_median_ratio(samples: Floats, reference: Floats) -> Interval:
    """Estimates the ratio of the medians of two independent series, of any lengths, with all samples above zero."""
    above, below = (draw_series(series, (0.5,), seed=seed) for seed, series in enumerate((samples, reference)))
    fewer = min(len(above.found), len(below.found))
    ratios = Draws(above.found[:fewer] / below.found[:fewer], min(above.blocks, below.blocks))
    return _make_interval(float(np.median(samples) / np.median(reference)), *ratios.find_interval(1))


def draw_series(samples: Floats, quantiles: tuple[float, ...], rounds: int = 1, seed: int = SEED) -> Draws:
    """Draws series of blocks of the samples, with replacement.

    A series is represented by how often it contains each sample.
    """
    n, random = len(samples), np.random.default_rng(seed)
    length = 0 if LEAST_ROUNDS <= rounds <= n else choose_block_length(samples)
    order = np.argsort(samples, kind="stable")
    count = max(LEAST_DRAWS, min(DRAWS, WORK // n))
    found: list[Floats] = []
    while len(found) < count:
        part = min(count - len(found), max(1, AT_ONCE // n))
        often = _draw_blocks(random, part, n, length) if length else _draw_rounds(random, part, n, rounds)
        found += list(_compute_statistics(samples[order], often[:, order], quantiles))
    return Draws(np.array(found), n / length if length else rounds)


def _compute_statistics(ordered: Floats, often: Ints, quantiles: tuple[float, ...]) -> Floats:
    """The mean and quantiles of each series. ordered: sorted samples; often: their counts, (series, n)."""
    until, totals = np.cumsum(often, axis=1), often.sum(1)
    at = np.array(quantiles) * (totals[:, None] - 1)  # positions in the sorted series
    places = np.stack([np.floor(at), np.ceil(at)]).astype(np.int64)
    # All series are searched as one array: each is offset by the length of the longest series.
    starts = np.arange(len(often)) * (totals.max() + 1)
    one = np.searchsorted((until + starts[:, None]).ravel(), places + starts[:, None], side="right")
    below, above = ordered[one - np.arange(len(often))[:, None] * len(ordered)]
    means = often @ ordered / totals
    return np.concatenate([means[:, None], below + at % 1 * (above - below)], axis=1)


def choose_block_length(samples: Floats) -> int:
    """The block length that Politis and White (2004) choose for a circular block bootstrap.

    It uses the autocorrelation of the ranks, which is robust against outliers. The length is at least the cube root
    of n, because few samples do not show all of the correlation.
    """
    n = len(samples)
    if n < 8 or samples.min() == samples.max():
        return 1
    most = int(min(3 * np.sqrt(n), n / 3))
    ranks = np.unique(samples, return_inverse=True)[1].astype(np.float64)
    spectrum = np.abs(np.fft.rfft(ranks - ranks.mean(), 2 * n)) ** 2
    covariance = np.fft.irfft(spectrum)[: most + 1] / n
    small = np.abs(covariance / covariance[0]) < 2 * np.sqrt(np.log10(n) / n)
    last = next((lag for lag in range(1, most) if small[lag : lag + 5].all()), most) - 1  # the last significant lag
    lags = np.arange(1, min(2 * max(last, 1), most) + 1)
    weights = np.clip(2 * (1 - lags / (lags[-1] + 1)), 0, 1)  # 1 up to the middle, then falling to 0
    slope = 2 * (weights * lags * covariance[lags]).sum()
    variance = covariance[0] + 2 * (weights * covariance[lags]).sum()
    if variance <= 0:
        return most
    chosen = (1.5 * slope**2 / variance**2 * n) ** (1 / 3) if last else 1.0
    return int(np.clip(np.ceil(max(chosen, n ** (1 / 3))), 1, most))


def _draw_blocks(random: np.random.Generator, count: int, n: int, length: int) -> Ints:
    """Draws `count` series of circular blocks. Returns how often each series contains each of n samples."""
    starts = _count_draws(random.integers(0, n, (count, -(-n // length))), n)
    total = np.cumsum(np.concatenate([np.zeros((count, 1), np.int64), starts[:, n - length :], starts], axis=1), axis=1)
    covered: Ints = total[:, length + 1 :] - total[:, 1 : n + 1]
    return covered


def _draw_rounds(random: np.random.Generator, count: int, n: int, rounds: int) -> Ints:
    """As `_draw_blocks`, with whole rounds. The lengths of rounds differ by at most one sample."""
    sizes = np.diff(n * np.arange(rounds + 1) // rounds)
    return np.repeat(_count_draws(random.integers(0, rounds, (count, rounds)), rounds), sizes, axis=1)


def _count_draws(drawn: Ints, n: int) -> Ints:
    """Counts how often each row contains each number below n."""
    rows = np.arange(len(drawn))[:, None] * n
    return np.bincount((drawn + rows).ravel(), minlength=len(drawn) * n).reshape(len(drawn), n)


def _make_interval(value: float, low: float, high: float) -> Interval:
    """Makes an interval that includes `value`, which draws of few samples may miss."""
    return Interval(value, min(low, value), max(high, value))
