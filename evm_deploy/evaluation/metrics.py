"""Shares of images with their 95 % confidence intervals."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Z = 1.959963984540054  # quantile of the normal distribution for 95 %
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Share:
    """A share of images, 0 to 1, with Wilson's score interval, which is also valid near 0 and 1."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Change:
    """The difference between two contenders on the same images; -0.01 is one image in a hundred lost.

    The interval is Agresti and Min's for paired shares, and p is that of McNemar's exact test. Since both were measured
    on the same images, their own intervals may overlap although one is significantly better.
    """

    value: float
    low: float
    high: float
    p: float
    lost: int  # images that only the other gets right
    won: int  # images that only this one gets right


def measure_share(hits: Bools) -> Share:
    """The share of true values. hits: (n,) with n at least 1."""
    n, count = len(hits), int(hits.sum())
    p, extra = count / n, Z * Z / n
    middle = (p + extra / 2) / (1 + extra)
    half = Z * math.sqrt(p * (1 - p) / n + extra / (4 * n)) / (1 + extra)
    # At 0 and 1 the interval ends exactly there; with rounding errors it might not contain its own value.
    return Share(p, 0.0 if count == 0 else max(0.0, middle - half), 1.0 if count == n else min(1.0, middle + half))


def measure_change(hits: Bools, others: Bools) -> Change:
    """How much larger the share of `hits` is than that of `others`, for the same n images, n at least 1."""
    n = len(hits)
    won, lost = int((hits & ~others).sum()), int((others & ~hits).sum())
    size, discordant = n + 2, won + lost + 1  # half an image more in each of the four cells
    middle = (won - lost) / size
    half = Z * math.sqrt(max(0.0, discordant - (won - lost) ** 2 / size)) / size
    return Change(
        (won - lost) / n, max(-1.0, middle - half), min(1.0, middle + half), compute_mcnemar(won, lost), lost, won
    )


def compute_mcnemar(won: int, lost: int) -> float:
    """The two-sided exact p of a split at least this uneven, if both directions are equally likely."""
    n = won + lost
    terms = (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(min(won, lost) + 1))
    return min(1.0, 2 * math.fsum(math.exp(term - n * math.log(2)) for term in terms))


def count_confusion(labels: Ints, found: Ints, classes: int) -> Ints:
    """Counts images by true class (row) and predicted class (column): (classes, classes)."""
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (labels, found), 1)
    return matrix


def measure_classes(matrix: Ints) -> tuple[float | None, ...]:
    """The share of correct images of each class; None for a class without images."""
    totals = matrix.sum(1)
    return tuple(int(right) / int(n) if n else None for right, n in zip(matrix.diagonal(), totals, strict=True))
