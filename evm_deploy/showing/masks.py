"""Masks of instances: from the small one of a box to the pixels of the image, and to COCO's run lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

LEAST = 0.5  # the probability from which on a pixel is covered
_BITS = 5  # of a number, in one character
_FIRST = 48  # the character of 0
_LONGEST = 35  # bits of a number

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


def paste_mask(mask: Floats, box: npt.NDArray[np.floating[Any]], size: tuple[int, int]) -> Mask:
    """The pixels that a mask (h, w), probabilities, covers in an image of (H, W): bool (H, W).

    It lies over its box (4,), as corners in pixels, is interpolated linearly at the middle of each pixel, and is zero
    outside. Of a box without extent, the middle of the mask lies on the pixels next to it.
    """
    (top, bottom), (left, right) = (_find_pixels(float(box[i]), float(box[2 + i]), size[1 - i]) for i in (1, 0))
    covered = np.zeros(size, np.bool_)
    down = _find_shares(float(box[1]), float(box[3]), top, bottom, mask.shape[0])
    across = _find_shares(float(box[0]), float(box[2]), left, right, mask.shape[1])
    covered[top:bottom, left:right] = down @ mask @ across.T >= LEAST
    return covered


def encode_mask(mask: Mask) -> dict[str, Any]:
    """A mask (H, W) as COCO's results have it: its size, and its run lengths, column by column, as text.

    The format is that of pycocotools' `maskApi`: the runs of pixels outside and inside take turns, outside first; from
    the fourth on a run is less the one before the last; a number is written five bits at a time, the lowest first.
    """
    flat = mask.T.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = [0, *([0] if flat.size and flat[0] else []), *changes.tolist(), flat.size]
    runs = np.diff(edges).tolist()
    numbers = [run if i < 3 else run - runs[i - 2] for i, run in enumerate(runs)]
    return {"size": list(mask.shape), "counts": "".join(map(_encode_number, numbers))}


def _encode_number(number: int) -> str:
    characters = []
    while True:
        low, number = number & 31, number >> _BITS
        last = number == (-1 if low & 16 else 0)  # the highest bit that is written is the sign
        characters.append(chr((low if last else low | 32) + _FIRST))
        if last:
            return "".join(characters)


def decode_lengths(text: str) -> list[int]:
    """The run lengths that `encode_mask` wrote as text. Raises ValueError: it is none."""
    runs: list[int] = []
    number, bits = 0, 0
    for character in text:
        code = ord(character) - _FIRST
        if not 0 <= code < 64 or bits > _LONGEST:
            raise ValueError("the text has no run lengths")
        number |= (code & 31) << bits
        bits += _BITS
        if code & 32:
            continue
        if code & 16:  # the sign
            number -= 1 << bits
        runs.append(number + runs[-2] if len(runs) > 2 else number)
        number, bits = 0, 0
    if bits:
        raise ValueError("the last run length is cut off")
    return runs


def _find_pixels(start: float, end: float, length: int) -> tuple[int, int]:
    """The pixels of a side that a box reaches, and one more on either side: from the first, to before the last."""
    return int(np.clip(np.floor(start) - 1, 0, length)), int(np.clip(np.ceil(end) + 1, 0, length))


def _find_shares(start: float, end: float, first: int, last: int, cells: int) -> Floats:
    """The share of each cell of a mask from `start` to `end` at the pixels `first` to before `last`: (n, cells)."""
    middles = np.arange(first, last, dtype=np.float32) + np.float32(0.5)
    extent = np.float32(end) - np.float32(start)
    at = (middles - np.float32(start)) / extent if extent else np.full_like(middles, 0.5)
    distances = (at * cells - np.float32(0.5))[:, None] - np.arange(cells, dtype=np.float32)
    shares: Floats = np.maximum(1 - np.abs(distances), 0)
    return shares
