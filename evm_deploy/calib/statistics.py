"""Statistics of a tensor over images: a few numbers for each channel and one histogram, in constant memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

HALF = 8192  # bins on either side of zero
MOMENTUM = 0.99  # of the moving average: about the last hundred images count
_LEAST_EXPONENT, _LARGEST_EXPONENT = -100, 128  # of the histogram's limit; the scale of its bins stays a float32

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


class NotFinite(ValueError):
    """A tensor holds NaN or an infinity."""


@dataclass
class TensorStatistics:
    """Statistics of one tensor over images of any sizes, updated in one pass. The same images give the same bits.

    The histogram has HALF bins of equal width on either side of zero, up to `limit`, a power of two. When a larger
    value comes, the limit is doubled until it fits and neighbouring bins are merged: no image is read twice. The
    largest value then lies above the middle of its side, so a bin is at most 1/4096 of that value wide.
    """

    channels: int
    count: int = 0  # images
    exponent: int = _LEAST_EXPONENT  # limit = 2 ** exponent
    average_low: float = 0.0  # not yet corrected for their start at zero
    average_high: float = 0.0
    counts: Counts = field(default_factory=lambda: np.zeros(2 * HALF, np.int64))
    channel_min: Floats = field(default_factory=lambda: np.zeros(0))  # (C,), these four
    channel_max: Floats = field(default_factory=lambda: np.zeros(0))
    channel_sum: Floats = field(default_factory=lambda: np.zeros(0))
    channel_square: Floats = field(default_factory=lambda: np.zeros(0))  # the sum of squares

    def __post_init__(self) -> None:
        if not self.channel_min.size:
            self.channel_min = np.full(self.channels, np.inf)
            self.channel_max = np.full(self.channels, -np.inf)
            self.channel_sum = np.zeros(self.channels)
            self.channel_square = np.zeros(self.channels)

    @property
    def low(self) -> float:
        """The least value."""
        return float(self.channel_min.min())

    @property
    def high(self) -> float:
        """The greatest value."""
        return float(self.channel_max.max())

    @property
    def moving_low(self) -> float:
        """The average of the images' least values, in which later images count more."""
        return self.average_low / (1 - MOMENTUM**self.count)

    @property
    def moving_high(self) -> float:
        """The average of the images' greatest values, likewise."""
        return self.average_high / (1 - MOMENTUM**self.count)

    @property
    def elements(self) -> int:
        """How many values were seen."""
        return int(self.counts.sum())

    @property
    def channel_mean(self) -> Floats:
        """(C,)"""
        mean: Floats = self.channel_sum * (self.channels / max(self.elements, 1))
        return mean

    @property
    def channel_mean_square(self) -> Floats:
        """(C,)"""
        mean: Floats = self.channel_square * (self.channels / max(self.elements, 1))
        return mean

    @property
    def limit(self) -> float:
        """Where the histogram ends, on both sides."""
        return math.ldexp(1.0, self.exponent)

    def update(self, values: npt.NDArray[Any], axis: int) -> None:
        """Adds the values of one image. `values` is float32 of any shape, with the channels along `axis`.

        Raises NotFinite, and then adds nothing; ValueError for another number of channels.
        """
        values = np.asarray(values, np.float32)
        if values.shape[axis] != self.channels or not values.size:
            raise ValueError(f"{values.shape} does not have {self.channels} channels along axis {axis}")
        others = tuple(i for i in range(values.ndim) if i != axis % values.ndim)
        least, greatest = values.min(others), values.max(others)
        low, high = float(least.min()), float(greatest.max())
        if not (math.isfinite(low) and math.isfinite(high)):  # min and max propagate NaN
            raise NotFinite
        self._widen(max(-low, high))
        self.counts += self._histogram(values)
        np.minimum(self.channel_min, least, out=self.channel_min)
        np.maximum(self.channel_max, greatest, out=self.channel_max)
        self.channel_sum += values.sum(others, dtype=np.float64)
        self.channel_square += _sum_squares(values, axis)
        self.average_low = MOMENTUM * self.average_low + (1 - MOMENTUM) * low
        self.average_high = MOMENTUM * self.average_high + (1 - MOMENTUM) * high
        self.count += 1

    def histogram(self, bins: int = 2 * HALF, folded: bool = False) -> tuple[Floats, Floats]:
        """Edges (n+1,) and counts (n,), n at most `bins`, ascending, from the least value to the greatest.

        Zero is an edge wherever values lie on both sides of it. Neighbours are merged until there are few enough.
        With `folded`, the histogram is that of the magnitudes.
        """
        counts, zero, low, high = self.counts, HALF, self.low, self.high
        if folded:
            counts, zero, low, high = counts[HALF:] + counts[HALF - 1 :: -1], 0, 0.0, max(-low, high)
        used = np.flatnonzero(counts)
        if not used.size:
            return np.zeros(2), np.zeros(1)
        group = 1
        while used[-1] // group - used[0] // group + 1 > bins:
            group *= 2
        first, last = int(used[0]) // group, int(used[-1]) // group + 1
        merged = counts.reshape(-1, group).sum(1)[first:last].astype(np.float64)
        edges = (np.arange(first, last + 1, dtype=np.float64) * group - zero) * (self.limit / HALF)
        return np.clip(edges, low, high), merged

    def to_state(self) -> dict[str, npt.NDArray[Any]]:
        """All fields as arrays, from which `from_state` restores the statistics exactly."""
        return {each.name: np.asarray(getattr(self, each.name)) for each in fields(self)}

    @classmethod
    def from_state(cls, state: dict[str, npt.NDArray[Any]]) -> TensorStatistics:
        """Restores statistics from the result of `to_state`. Raises ValueError, KeyError or TypeError otherwise."""
        channels = state["channel_min"].size
        for name, like in cls(channels).to_state().items():
            found = state[name]
            if (found.shape, found.dtype) != (like.shape, like.dtype) or np.isnan(found).any():
                raise ValueError(f"{name} is {found.dtype} {found.shape}, or not a number")
        values: dict[str, Any] = {name: array.item() if array.ndim == 0 else array for name, array in state.items()}
        made = cls(**values)
        if made.channels != channels or made.count < 1 or not _LEAST_EXPONENT <= made.exponent <= _LARGEST_EXPONENT:
            raise ValueError(f"{made.channels} channels of {made.count} images, up to 2 to the {made.exponent}")
        return made

    def _widen(self, largest: float) -> None:
        """Doubles the limit until `largest` is below it."""
        if largest < self.limit:
            return
        exponent = min(math.frexp(largest)[1], _LARGEST_EXPONENT)  # frexp: largest < 2 ** exponent
        steps, self.exponent = exponent - self.exponent, exponent
        if not self.count:
            return
        group = 1 << min(steps, HALF.bit_length() - 1)
        kept = HALF // group
        merged = self.counts.reshape(-1, group).sum(1)
        self.counts = np.zeros_like(self.counts)
        self.counts[HALF - kept : HALF + kept] = merged

    def _histogram(self, values: npt.NDArray[np.float32]) -> Counts:
        """Counts values by bin. Scaling by a power of two is exact in float32, so the order of images is irrelevant."""
        scaled = values.ravel() * np.float32(HALF / self.limit)
        np.floor(scaled, out=scaled)
        scaled += np.float32(HALF)
        return np.bincount(scaled.astype(np.uint16), minlength=2 * HALF)


def _sum_squares(values: npt.NDArray[np.float32], axis: int) -> Floats:
    """(C,). Sums in float32 within an image: that is exact enough for its few hundred thousand values."""
    rows = np.moveaxis(values, axis, -1).reshape(-1, values.shape[axis])
    squares: Floats = np.einsum("ij,ij->j", rows, rows).astype(np.float64)
    return squares
