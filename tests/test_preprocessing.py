"""From RGB pixels to a model's input: every choice of the manifest against slow obvious code, which knows its rules."""

import dataclasses
import itertools
import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from evm_deploy.bundle import Preprocessing
from evm_deploy.errors import ImageError
from evm_deploy.preprocessing import preprocess

Pixels = npt.NDArray[np.uint8]


def pixels(h: int, w: int) -> Pixels:
    return np.random.default_rng(h * 1000 + w).integers(0, 256, (h, w, 3), dtype=np.uint8)


# The transform of the paper


def by_hand(image: Pixels, resized: tuple[int, int], corner: tuple[int, int], size: tuple[int, int]) -> Pixels:
    """Resize to (h, w), and cut `size` at (top, left)."""
    wide = Image.fromarray(image).resize((resized[1], image.shape[0]), Image.Resampling.BICUBIC)
    large = np.array(wide.resize(resized[::-1], Image.Resampling.BICUBIC))
    return large[corner[0] : corner[0] + size[0], corner[1] : corner[1] + size[1]]


@pytest.mark.parametrize(
    ("shape", "size", "resized", "corner"),
    [
        ((300, 400), (224, 224), (256, 341), (16, 58)),  # (341 - 224) / 2 = 58.5, rounded to even as Python does
        ((400, 300), (224, 224), (341, 256), (58, 16)),
        ((256, 256), (224, 224), (256, 256), (16, 16)),
        ((50, 31), (224, 224), (412, 256), (94, 16)),
        ((224, 224), (225, 225), (257, 257), (16, 16)),
        ((300, 400), (192, 256), (219, 292), (14, 18)),
        ((400, 300), (192, 256), (389, 292), (98, 18)),
        ((100, 900), (192, 256), (219, 1971), (14, 858)),
    ],
)
def test_resize_and_crop(
    shape: tuple[int, int], size: tuple[int, int], resized: tuple[int, int], corner: tuple[int, int]
) -> None:
    image = pixels(*shape)
    baked = preprocess(image, Preprocessing(size, baked=True))
    expected = by_hand(image, resized, corner, size)
    assert baked.dtype == np.uint8
    np.testing.assert_array_equal(baked, expected[None])

    plain = preprocess(image, Preprocessing(size))
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    assert plain.dtype == np.float32
    assert plain.flags.c_contiguous
    np.testing.assert_allclose(plain[0].transpose(1, 2, 0), (expected / 255 - mean) / std, atol=1e-6)


def usual_sizes(height: int, width: int, short: int) -> tuple[int, int]:
    """(h, w) after the usual resize of the short side, written as its authors write it: in floating point."""
    if width <= height:
        return int(short * height / width), short
    return short, int(short * width / height)


@settings(max_examples=60)
@given(st.integers(1, 400), st.integers(1, 400), st.sampled_from([32, 97, 224]))
def test_square_sizes_are_the_usual_transform(height: int, width: int, side: int) -> None:
    short = int(side / 0.875)
    resized = usual_sizes(height, width, short)
    if resized[0] * resized[1] > 4_000_000:
        return
    corner = round((resized[0] - side) / 2), round((resized[1] - side) / 2)
    image = pixels(height, width)
    expected = by_hand(image, resized, corner, (side, side))
    np.testing.assert_array_equal(preprocess(image, Preprocessing((side, side), baked=True)), expected[None])


@settings(max_examples=60)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(32, 256), st.integers(32, 256))
def test_every_pixel_comes_from_the_image(height: int, width: int, h: int, w: int) -> None:
    """The crop never reaches past the resized image, which Pillow would fill with black."""
    white = np.full((height, width, 3), 255, np.uint8)
    cropped = preprocess(white, Preprocessing((h, w), baked=True))
    assert cropped.shape == (1, h, w, 3)
    assert cropped.min() == 255


def test_a_sliver_is_refused_before_it_is_blown_up() -> None:
    with pytest.raises(ImageError, match="more than 64 megapixels"):
        preprocess(np.zeros((1, 300_000, 3), np.uint8), Preprocessing((224, 224)))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
    ],
)
def test_arrays_that_are_no_image(image: Pixels) -> None:
    with pytest.raises(ImageError, match="the image is"):
        preprocess(image, Preprocessing((224, 224)))


# The other choices


def scaled_size(size: tuple[int, int], target: tuple[int, int], resize: str) -> tuple[int, int]:
    """(h, w) of the resized image, in exact fractions."""
    scales = [Fraction(wanted, side) for side, wanted in zip(size, target, strict=True)]
    if resize == "squash":
        return target
    if resize == "cover":
        return math.floor(size[0] * max(scales)), math.floor(size[1] * max(scales))
    nearest = [math.floor(side * min(scales) + Fraction(1, 2)) for side in size]
    return max(1, nearest[0]), max(1, nearest[1])


def slowly(image: Pixels, said: Preprocessing, filter: Image.Resampling) -> Pixels:
    """The crop, (h, w, 3), with a canvas of every pixel that might be in it."""
    target = math.floor(said.image_size[0] / said.crop_pct), math.floor(said.image_size[1] / said.crop_pct)
    size = scaled_size(image.shape[:2], target, said.resize)
    resized = np.array(Image.fromarray(image).resize((size[1], image.shape[0]), filter).resize(size[::-1], filter))
    canvas = np.full((*np.maximum(size, target), 3), said.fill, np.uint8)
    top, left = (round((full - part) / 2) for full, part in zip(canvas.shape, size, strict=False))
    canvas[top : top + size[0], left : left + size[1]] = resized
    top, left = (round((full - part) / 2) for full, part in zip(canvas.shape, said.image_size, strict=False))
    return canvas[top : top + said.image_size[0], left : left + said.image_size[1]]


SIDES = st.integers(1, 200)
LEVELS = st.floats(0.01, 1)
COLOURS = st.tuples(LEVELS, LEVELS, LEVELS)


@settings(max_examples=150)
@given(
    size=st.tuples(SIDES, SIDES),
    target=st.tuples(st.integers(32, 90), st.integers(32, 90)),
    crop_pct=st.sampled_from([0.5, 0.875, 0.9, 0.95, 1.0]),
    resize=st.sampled_from(["cover", "squash", "letterbox"]),
    fill=st.integers(0, 255),
    interpolation=st.sampled_from(["nearest", "bilinear", "bicubic", "lanczos"]),
    channels=st.sampled_from(["RGB", "BGR"]),
    mean=COLOURS,
    std=COLOURS,
)
def test_every_choice_is_what_slow_code_makes_of_it(
    size: tuple[int, int], target: tuple[int, int], fill: int, **said: object
) -> None:
    fill = fill if said["resize"] == "letterbox" else 0
    steps = Preprocessing(target, fill=fill, **said)  # type: ignore[arg-type]
    cropped = slowly(pixels(*size), steps, Image.Resampling[steps.interpolation.upper()])
    expected = cropped[:, :, ::-1] if steps.channels == "BGR" else cropped
    baked = preprocess(pixels(*size), dataclasses.replace(steps, baked=True))
    np.testing.assert_array_equal(baked, expected[None])
    assert baked.flags.c_contiguous
    normalised = (expected / 255 - np.array(steps.mean)) / np.array(steps.std)
    plain = preprocess(pixels(*size), steps)
    assert plain.flags.c_contiguous
    np.testing.assert_allclose(plain[0].transpose(1, 2, 0), normalised, rtol=1e-5, atol=2e-5)


KERNELS: dict[str, tuple[float, Callable[[float], float]]] = {
    "bilinear": (1, lambda x: 1 - x),
    "bicubic": (2, lambda x: 1.5 * x**3 - 2.5 * x**2 + 1 if x < 1 else -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2),
    "lanczos": (3, lambda x: float(np.sinc(x) * np.sinc(x / 3))),
}


def resample(line: npt.NDArray[np.float64], length: int, interpolation: str) -> npt.NDArray[np.float64]:
    """`line` (n, ...) made `length` long, each output the weighted mean of the inputs within reach of its centre."""
    scale = len(line) / length
    if interpolation == "nearest":
        return line[[math.floor((i + 0.5) * scale) for i in range(length)]]
    reach, kernel = KERNELS[interpolation]
    stretch = max(scale, 1)
    made = []
    for i in range(length):
        distances = [abs(j + 0.5 - (i + 0.5) * scale) / stretch for j in range(len(line))]
        weights = np.array([kernel(x) if x < reach else 0 for x in distances])
        made.append(np.tensordot(weights / weights.sum(), line, 1))
    return np.clip(np.floor(np.array(made) + 0.5), 0, 255)


@pytest.mark.parametrize("interpolation", ["nearest", *KERNELS])
@pytest.mark.parametrize(("size", "target"), [((61, 83), (32, 40)), ((7, 9), (33, 47)), ((45, 33), (33, 45))])
def test_each_interpolation_is_the_kernel_of_its_name(
    interpolation: str, size: tuple[int, int], target: tuple[int, int]
) -> None:
    steps = Preprocessing(target, 1.0, interpolation, resize="squash", baked=True)  # type: ignore[arg-type]
    narrow = resample(pixels(*size).astype(np.float64).swapaxes(0, 1), target[1], interpolation).swapaxes(0, 1)
    expected = resample(narrow, target[0], interpolation)
    difference = np.abs(preprocess(pixels(*size), steps)[0].astype(int) - expected)
    assert difference.max() <= (0 if interpolation == "nearest" else 1)  # Pillow's weights have 22 bits
    assert difference.mean() < 0.02


def test_the_interpolations_differ() -> None:
    made = [
        preprocess(pixels(80, 100), Preprocessing((32, 32), interpolation=name, baked=True))  # type: ignore[arg-type]
        for name in ("nearest", *KERNELS)
    ]
    assert all(not np.array_equal(one, other) for one, other in itertools.combinations(made, 2))


def test_a_letterbox_keeps_the_whole_image_between_two_bars_of_the_fill() -> None:
    white = np.full((10, 40, 3), 255, np.uint8)
    made = preprocess(white, Preprocessing((32, 32), 1.0, resize="letterbox", fill=114, baked=True))
    assert (made[0, :12] == 114).all()
    assert (made[0, 12:20] == 255).all()
    assert (made[0, 20:] == 114).all()


def test_a_letterbox_of_a_line_keeps_one_row_of_pixels() -> None:
    line = np.full((1, 5000, 3), 255, np.uint8)
    made = preprocess(line, Preprocessing((32, 32), 1.0, resize="letterbox", baked=True))
    assert [row for row in range(32) if made[0, row].any()] == [16]  # 15.5, rounded to even


def test_bgr_is_red_last_before_the_mean_is_subtracted() -> None:
    red = np.full((40, 40, 3), (255, 0, 0), np.uint8)
    steps = Preprocessing((32, 32), channels="BGR", mean=(0.1, 0.2, 0.3), std=(1, 1, 0.5))
    np.testing.assert_allclose(preprocess(red, steps)[0, :, 0, 0], [-0.1, -0.2, 1.4], rtol=1e-6)
    baked = preprocess(red, dataclasses.replace(steps, baked=True))
    assert baked[0, 0, 0].tolist() == [0, 0, 255]


def test_a_canvas_over_the_limit_is_refused() -> None:
    with pytest.raises(ImageError, match=r"10000x10000 pixels, more than 64 megapixels"):
        preprocess(pixels(10, 10), Preprocessing((1000, 1000), 0.1, resize="letterbox"))
    with pytest.raises(ImageError, match=r"256x300000 pixels, more than 64 megapixels"):  # before its rows are few
        preprocess(np.zeros((300_000, 1, 3), np.uint8), Preprocessing((224, 224), resize="squash"))


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"resize": "stretch"}, "resize 'stretch' is not one of cover, squash, letterbox"),
        ({"interpolation": "area"}, "interpolation 'area' is not one of"),
        ({"channels": "GRB"}, "channels 'GRB' is not one of RGB, BGR"),
        ({"resize": "letterbox", "fill": 256}, "fill 256 is not within 0 to 255"),
        ({"resize": "letterbox", "fill": -1}, "fill -1 is not within"),
        ({"fill": 114}, "fill 114 is what a letterbox is padded with"),
        ({"std": (1.0, 0.0, 1.0)}, "std not within"),
        ({"mean": (math.nan, 0.0, 0.0)}, "mean is not within"),
    ],
)
def test_values_that_mean_nothing(said: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Preprocessing((32, 32), **said)  # type: ignore[arg-type]
