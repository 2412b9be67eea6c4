"""Masks in the pixels of an image, pixel by pixel, and as COCO writes them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evm_deploy.showing.masks import LEAST, encode_mask, paste_mask


def paste_pixel(mask: np.ndarray, box: np.ndarray, x: int, y: int) -> float:
    """The mask at the middle of a pixel, interpolated between the middles of its cells, zero outside."""
    left, top, right, bottom = box.tolist()
    if not (math.floor(left) - 1 <= x < math.ceil(right) + 1 and math.floor(top) - 1 <= y < math.ceil(bottom) + 1):
        return 0.0
    across = ((x + 0.5 - left) / (right - left) if right > left else 0.5) * mask.shape[1] - 0.5
    down = ((y + 0.5 - top) / (bottom - top) if bottom > top else 0.5) * mask.shape[0] - 0.5
    value = 0.0
    for row in (math.floor(down), math.floor(down) + 1):
        for column in (math.floor(across), math.floor(across) + 1):
            if 0 <= row < mask.shape[0] and 0 <= column < mask.shape[1]:
                value += (1 - abs(down - row)) * (1 - abs(across - column)) * float(mask[row, column])
    return value


@settings(max_examples=60)
@given(
    size=st.tuples(st.integers(1, 25), st.integers(1, 25)),
    cells=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    corner=st.tuples(st.floats(-6, 20), st.floats(-6, 20)),
    extent=st.tuples(st.sampled_from([0.0, 0.3, 1.0, 7.5, 40.0]), st.sampled_from([0.0, 0.3, 1.0, 7.5, 40.0])),
    seed=st.integers(0, 99),
)
def test_a_pasted_mask_is_that_of_each_pixel(size, cells, corner, extent, seed):
    mask = np.random.default_rng(seed).random(cells, dtype=np.float32)
    box = np.array([*corner, corner[0] + extent[0], corner[1] + extent[1]], np.float32)
    found = paste_mask(mask, box, size)
    expected = np.array([[paste_pixel(mask, box, x, y) for x in range(size[1])] for y in range(size[0])])
    certain = abs(expected - LEAST) > 1e-4
    assert np.array_equal(found[certain], expected[certain] >= LEAST)


# Of pycocotools 2.0: the seed, height and width of a mask, the side of its cells, and its text.
COCO = [
    (0, 5, 7, 1, "422OO00012ON10O0016"),
    (1, 30, 41, 9, "999J060J060J060J060J060J060J060J060Jb00000000000000000^80bG000000000000000f4"),
]


@pytest.mark.parametrize(("seed", "h", "w", "side", "text"), COCO)
def test_run_lengths_are_those_of_coco(seed, h, w, side, text):
    cells = np.random.default_rng(seed).random((h // side + 1, w // side + 1)) < 0.5
    mask = np.kron(cells, np.ones((side, side), bool))[:h, :w]
    assert encode_mask(mask) == {"size": [h, w], "counts": text}


def decode(text: str, h: int, w: int) -> np.ndarray:
    """As COCO reads it."""
    runs: list[int] = []
    number = shift = 0
    for character in map(ord, text):
        number |= (character - 48 & 31) << shift
        shift += 5
        if not (character - 48) & 32:
            if (character - 48) & 16:
                number -= 1 << shift
            runs.append(number + runs[-2] if len(runs) > 2 else number)
            number = shift = 0
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(w, h).T


@given(
    h=st.integers(1, 40), w=st.integers(1, 90), share=st.sampled_from([0, 0.02, 0.5, 0.98, 1]), seed=st.integers(0, 99)
)
def test_run_lengths_say_the_whole_mask(h, w, share, seed):
    mask = np.random.default_rng(seed).random((h, w)) < share
    assert np.array_equal(decode(encode_mask(mask)["counts"], h, w), mask)
