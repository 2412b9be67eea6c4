"""Intervals of statistics of times. Runs that follow each other are alike (clocks, neighbours), so whole blocks of them
are drawn again: single runs would be taken for more knowledge than they are, and give intervals that are too narrow.
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
WORK = 10_000_000  # samples looked at: of very many samples fewer draws are enough
LEAST_DRAWS = 200
AT_ONCE = 1_000_000  # samples
LEAST_ROUNDS = 4


@dataclass(frozen=True)
class Draws:
    """Series made of the samples: the mean and each quantile of each, (draws, 1 + quantiles), from so many blocks."""

    found: Floats
    blocks: float

    def ends(self, column: int) -> tuple[float, float]:
        """The 95 % interval of a column. Of few blocks the outermost draws are needed: as an interval by Student's t
        is wider than one by the normal distribution (Hesterberg 2014, the expanded percentile interval).
        """
        free = max(self.blocks - 1, 2.0)
        z = NormalDist().inv_cdf((1 + LEVEL) / 2)
        t = z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
        tail = NormalDist().cdf(-t * (1 + 1 / free) ** 0.5)
        low, high = np.quantile(self.found[:, column], (tail, 1 - tail))
        return float(low), float(high)


def intervals(samples: Floats, quantiles: tuple[float, ...], rounds: int = 1) -> tuple[Interval, ...]:
    """The mean of (n,) samples in their order, and each quantile (0 to 1, linear), with their 95 % intervals.

    rounds: of equal length, in each of which the model was opened anew; of several they are what is drawn.
    """
    values = [float(value) for value in (samples.mean(), *np.quantile(samples, quantiles))]
    drawn = draws(samples, quantiles, rounds)
    return tuple(_around(value, *drawn.ends(column)) for column, value in enumerate(values))


def ratio_of_medians(samples: Floats, reference: Floats) -> Interval:
    """Of two series that have nothing to do with each other, of any lengths, all above zero."""
    above, below = (draws(series, (0.5,), seed=seed) for seed, series in enumerate((samples, reference)))
    fewer = min(len(above.found), len(below.found))
    ratios = Draws(above.found[:fewer] / below.found[:fewer], min(above.blocks, below.blocks))
    return _around(float(np.median(samples) / np.median(reference)), *ratios.ends(1))


def draws(samples: Floats, quantiles: tuple[float, ...], rounds: int = 1, seed: int = SEED) -> Draws:
    """Series made of blocks of the samples, drawn with replacement.

    A series is never written out: how often it has each sample says the same.
    """
    n, random = len(samples), np.random.default_rng(seed)
    length = 0 if LEAST_ROUNDS <= rounds <= n else block_length(samples)
    order = np.argsort(samples, kind="stable")
    count = max(LEAST_DRAWS, min(DRAWS, WORK // n))
    found: list[Floats] = []
    while len(found) < count:
        part = min(count - len(found), max(1, AT_ONCE // n))
        often = _blocks(random, part, n, length) if length else _rounds(random, part, n, rounds)
        found += list(_statistics(samples[order], often[:, order], quantiles))
    return Draws(np.array(found), n / length if length else rounds)


def _statistics(ordered: Floats, often: Ints, quantiles: tuple[float, ...]) -> Floats:
    """The mean and the quantiles of series that have each sample, from the least on, so often: (series, n)."""
    until, totals = np.cumsum(often, axis=1), often.sum(1)
    at = np.array(quantiles) * (totals[:, None] - 1)  # places in the sorted series
    places = np.stack([np.floor(at), np.ceil(at)]).astype(np.int64)
    # All series are searched as one: each begins where the longest before it would have ended.
    starts = np.arange(len(often)) * (totals.max() + 1)
    one = np.searchsorted((until + starts[:, None]).ravel(), places + starts[:, None], side="right")
    below, above = ordered[one - np.arange(len(often))[:, None] * len(ordered)]
    means = often @ ordered / totals
    return np.concatenate([means[:, None], below + at % 1 * (above - below)], axis=1)


def block_length(samples: Floats) -> int:
    """How many neighbours hang together: the length that Politis and White (2004) choose for a circular block
    bootstrap, from the autocorrelation of the ranks, which single outliers do not hide. At least the third root of n:
    few samples do not show all that hangs together.
    """
    n = len(samples)
    if n < 8 or samples.min() == samples.max():
        return 1
    most = int(min(3 * np.sqrt(n), n / 3))
    ranks = np.unique(samples, return_inverse=True)[1].astype(np.float64)
    spectrum = np.abs(np.fft.rfft(ranks - ranks.mean(), 2 * n)) ** 2
    covariance = np.fft.irfft(spectrum)[: most + 1] / n
    small = np.abs(covariance / covariance[0]) < 2 * np.sqrt(np.log10(n) / n)
    last = next((lag for lag in range(1, most) if small[lag : lag + 5].all()), most) - 1  # lag that still counts
    lags = np.arange(1, min(2 * max(last, 1), most) + 1)
    weights = np.clip(2 * (1 - lags / (lags[-1] + 1)), 0, 1)  # flat to the middle, then down to nothing
    slope = 2 * (weights * lags * covariance[lags]).sum()
    variance = covariance[0] + 2 * (weights * covariance[lags]).sum()
    if variance <= 0:
        return most
    chosen = (1.5 * slope**2 / variance**2 * n) ** (1 / 3) if last else 1.0
    return int(np.clip(np.ceil(max(chosen, n ** (1 / 3))), 1, most))


def _blocks(random: np.random.Generator, count: int, n: int, length: int) -> Ints:
    """How often each of `count` series of blocks, around the end, has each of n samples."""
    starts = _counted(random.integers(0, n, (count, -(-n // length))), n)
    total = np.cumsum(np.concatenate([np.zeros((count, 1), np.int64), starts[:, n - length :], starts], axis=1), axis=1)
    covered: Ints = total[:, length + 1 :] - total[:, 1 : n + 1]
    return covered


def _rounds(random: np.random.Generator, count: int, n: int, rounds: int) -> Ints:
    """The same of whole rounds; as many samples in each, to one."""
    sizes = np.diff(n * np.arange(rounds + 1) // rounds)
    return np.repeat(_counted(random.integers(0, rounds, (count, rounds)), rounds), sizes, axis=1)


def _counted(drawn: Ints, n: int) -> Ints:
    """How often each row has each number below n."""
    rows = np.arange(len(drawn))[:, None] * n
    return np.bincount((drawn + rows).ravel(), minlength=len(drawn) * n).reshape(len(drawn), n)


def _around(value: float, low: float, high: float) -> Interval:
    """Of few samples the draws may miss the figure itself."""
    return Interval(value, min(low, value), max(high, value))
