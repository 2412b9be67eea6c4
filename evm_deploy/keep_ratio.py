"""Resizes images as detectors and segmenters are trained with it: into a box, keeping their ratio, as OpenCV does."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from evm_deploy.decoding import UInt8

BITS = 11  # of a weight
ONE = 1 << BITS


def find_fitted_size(
    height: int, width: int, image_size: tuple[int, int], scale: tuple[int, int] | None
) -> tuple[int, int]:
    """(h, w) of an image in the input of a model: it fits into a box with sides `scale` (long, short), either way
    round, or, of a model of one size, into `image_size` (h, w)."""
    return find_size_within(height, width, *image_size) if scale is None else find_size(height, width, *scale)


def find_size(height: int, width: int, long: int, short: int) -> tuple[int, int]:
    """(h, w) of an image that is made as large as fits into a box with sides `long` and `short`, either way round."""
    return find_size_within(height, width, *((long, short) if height > width else (short, long)))


def find_size_within(height: int, width: int, rows: int, columns: int) -> tuple[int, int]:
    """(h, w) of an image that is made as large as fits into (rows, columns), as it stands.

    No side becomes less than a pixel, which an image that is much longer than wide would ask for.
    """
    factor = min(rows / height, columns / width)
    return max(1, math.floor(height * factor + 0.5)), max(1, math.floor(width * factor + 0.5))


def find_scaled_size(height: int, width: int, ratio: float) -> tuple[int, int]:
    """(h, w) of an image that is made larger by `ratio`, as a test at several scales has it: rounded twice."""
    h, w = math.floor(height * ratio + 0.5), math.floor(width * ratio + 0.5)
    return find_size(height, width, max(h, w), min(h, w))


def resize_bilinear(image: UInt8, size: tuple[int, int]) -> UInt8:
    """uint8 (H, W, C) resized to (h, w): every bit as OpenCV's INTER_LINEAR has it, which has no antialiasing.

    A weight has 11 bits. Rows are interpolated first, then columns with 4 bits less; products lose their last 16.
    """
    (top, down), (left, right) = (_find_neighbours(*sides) for sides in zip(image.shape, size, strict=False))
    row = image.astype(np.int32)
    across = row[:, left.place] * left.weight[:, None] + row[:, right.place] * right.weight[:, None] >> 4
    upper, lower = (across[each.place] * each.weight[:, None, None] >> 16 for each in (top, down))
    return (upper + lower + 2 >> 2).astype(np.uint8)


class _Neighbours(NamedTuple):
    """Of each new place, one of the two old ones that it lies between, and its weight of ONE."""

    place: npt.NDArray[np.intp]
    weight: npt.NDArray[np.int32]


def _find_neighbours(length: int, new: int) -> tuple[_Neighbours, _Neighbours]:
    scale = 1 / (new / length)  # rounded twice, as OpenCV does
    at = ((np.arange(new) + 0.5) * scale - 0.5).astype(np.float32)
    before = np.floor(at)
    share = at - before
    first = before.astype(np.intp)
    weights = [np.rint(each * np.float32(ONE)).astype(np.int32) for each in (np.float32(1) - share, share)]
    places = [each.clip(0, length - 1) for each in (first, first + 1)]
    return _Neighbours(places[0], weights[0]), _Neighbours(places[1], weights[1])
