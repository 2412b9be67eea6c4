"""Measures how much a histogram loses on a grid of integers: the expected squared error, and the relative entropy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evm_deploy.calib.statistics import Floats

NARROW = 1e-4  # a bin narrower than this share of a step counts as a point: differences of integrals would cancel
UNSEEN = 1e-4  # the total probability given to bins that the integers cannot tell from empty ones


@dataclass(frozen=True)
class Grid:
    """The real numbers that integers stand for: multiples of `step` from `low` to `high`, zero among them."""

    step: float
    low: float
    high: float

    @classmethod
    def from_range(cls, low: float, high: float, levels: int, symmetric: bool) -> Grid:
        """The grid of runtimes: symmetric from -(levels/2 - 1) steps, or `levels` numbers with zero among them."""
        if symmetric:
            largest = max(-low, high)
            return cls(largest / (levels // 2 - 1), -largest, largest)
        step = (high - low) / (levels - 1)
        zero = np.round(-low / step)
        return cls(step, float(-zero * step), float((levels - 1 - zero) * step))


def compute_squared_error(edges: Floats, counts: Floats, grid: Grid) -> float:
    """The mean of (x - x rounded onto the grid)², with the values of a bin spread evenly over it.

    Edges (n+1,) ascend. The integral of a bin is exact: rounding within the grid, clipping outside.
    """
    inside, step = np.clip(edges, grid.low, grid.high), grid.step
    nearest = np.round(inside / step)
    rest = inside / step - nearest
    rounding = step**3 * np.diff(nearest / 12 + rest**3 / 3)
    above, below = np.maximum(edges - grid.high, 0), np.maximum(grid.low - edges, 0)
    clipping = (np.diff(above**3) - np.diff(below**3)) / 3
    width = np.diff(edges)
    narrow = width < NARROW * step
    middle = (edges[1:] + edges[:-1]) / 2
    at_middle = (middle - np.clip(np.round(middle / step) * step, grid.low, grid.high)) ** 2
    mean = np.where(narrow, at_middle, (rounding + clipping) / np.where(narrow, 1, width))
    return float((mean * counts).sum() / counts.sum())


def compute_divergence(edges: Floats, counts: Floats, grid: Grid) -> float:
    """The relative entropy, in nats, of the values with respect to the distribution that their integers describe.

    After rounding, only the step of a value is known: its probability is spread over the bins of that step that are
    not empty. Values outside count at the end of the grid, to which they are clipped.
    """
    middle = (edges[1:] + edges[:-1]) / 2
    first, last = map(int, np.searchsorted(middle, [grid.low, grid.high]))
    first = min(first, len(middle) - 1)
    last = max(last, first + 1)
    inside = counts[first:last]
    clipped = inside.copy()
    clipped[0] += counts[:first].sum()
    clipped[-1] += counts[last:].sum()
    level = np.round(middle[first:last] / grid.step).astype(np.int64)
    level -= level[0]
    held = inside > 0
    total, bins = np.bincount(level, inside), np.bincount(level, held)
    told = np.where(held, (total / np.maximum(bins, 1))[level], 0.0)
    told = (1 - UNSEEN) * told / max(told.sum(), 1e-300) + UNSEEN / len(told)
    present = clipped > 0
    share = clipped[present] / clipped.sum()
    return float((share * np.log(share / told[present])).sum())
