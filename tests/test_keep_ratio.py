"""The resizing of detectors and segmenters, of which every bit is OpenCV's."""

import hashlib

import numpy as np
import pytest

from evm_deploy.keep_ratio import find_size, resize_bilinear


@pytest.mark.parametrize(
    ("image", "box", "size"),
    [
        ((97, 131), (1333, 800), (800, 1080)),
        ((480, 640), (1333, 800), (800, 1067)),
        ((300, 1000), (1333, 800), (400, 1333)),
        ((1000, 300), (1333, 800), (1333, 400)),
        ((97, 131), (2048, 512), (512, 691)),
        ((1, 2000), (1333, 800), (1, 1333)),
        ((1, 4000), (1333, 800), (1, 1333)),
        ((3000, 4000), (1333, 800), (800, 1067)),
    ],
)
def test_sizes(image, box, size):
    assert find_size(*image, *box) == size


# Of OpenCV 4.10: the first 16 digits of the sha256 of cv2.resize(image, (w, h), interpolation=cv2.INTER_LINEAR).
OPENCV = {
    (13, 17, 31, 29): "d464cf75a5e562a9",
    (64, 48, 20, 33): "92440ec44bd8960a",
    (40, 60, 20, 30): "53c71329191264ed",
    (20, 30, 40, 60): "6ee9185436dc516d",
    (1, 50, 3, 20): "633f4beb901bf4b5",
    (50, 1, 20, 7): "a0907655ae40f50e",
    (97, 131, 160, 216): "e152c3f51feef212",
}


@pytest.mark.parametrize("sides", OPENCV)
def test_every_bit_is_that_of_opencv(sides):
    h, w, new_h, new_w = sides
    image = np.random.default_rng(h * 1000 + w).integers(0, 256, (h, w, 3), dtype=np.uint8)
    found = resize_bilinear(image, (new_h, new_w))
    assert found.shape == (new_h, new_w, 3)
    assert hashlib.sha256(found.tobytes()).hexdigest()[:16] == OPENCV[sides]


def test_the_same_size_changes_nothing():
    image = np.random.default_rng(0).integers(0, 256, (9, 14, 3), dtype=np.uint8)
    assert np.array_equal(resize_bilinear(image, (9, 14)), image)
