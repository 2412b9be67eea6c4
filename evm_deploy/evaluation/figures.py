"""Figures of what was found in images, with 95 % intervals from the same images drawn anew."""

from dataclasses import dataclass

import numpy as np

from evm_deploy.tasks.truth import FindingsFigures

DRAWS = 200  # as many images as there are, with repetition
ENDS = (2.5, 97.5)  # per cent of the draws


@dataclass(frozen=True)
class Figure:
    """A share, 0 to 1; None: no image says anything of it. The interval is the main figure's alone."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Move:
    """How much larger the main figure is than the reference's, over the same draws; -0.01 is one point lost."""

    value: float
    low: float
    high: float


def measure_figures(
    measured: FindingsFigures, other: FindingsFigures | None, images: int
) -> tuple[tuple[Figure, ...], Move | None]:
    """All figures, the main one first, and how it differs from the reference's."""
    (main, value), *rest = measured.figures.items()
    others = tuple(Figure(name, share) for name, share in rest)
    if value is None:
        return (Figure(main, None), *others), None
    counts = np.random.default_rng(0).multinomial(images, np.full(images, 1 / images), DRAWS)
    drawn = measured.resample(counts)
    first = Figure(main, value, *_find_ends(drawn))
    before = None if other is None else next(iter(other.figures.values()))
    if other is None or before is None:
        return (first, *others), None
    return (first, *others), Move(value - before, *_find_ends(drawn - other.resample(counts)))


def _find_ends(drawn: np.ndarray) -> tuple[float, float]:
    low, high = np.nanpercentile(drawn, ENDS)
    return float(low), float(high)
