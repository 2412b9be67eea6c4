"""Resizes RGB images and cuts out what a model sees.

A copy of this file lies in packages for Linux, beside that of `decoding.py`: it imports NumPy and Pillow alone.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from evm_deploy.decoding import MAX_PIXELS, DecodingError, UInt8

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def resize_and_crop(
    image: UInt8, crop: tuple[int, int], canvas: tuple[int, int], resize: str, interpolation: str, fill: int
) -> UInt8:
    """The (h, w) `crop` of an RGB image, uint8 (H, W, 3), that was resized for the (h, w) `canvas`.

    `resize` is one of RESIZED, `interpolation` one of FILTERS; see `manifest.Preprocessing`. Raises DecodingError: the
    resized image would have more than 64 megapixels.
    """
    height, width = image.shape[:2]
    size = RESIZED[resize](height, width, *canvas)
    canvas_h, canvas_w = max(canvas[0], size[0]), max(canvas[1], size[1])  # larger than `size` only for a letterbox
    if max(canvas_h, height) * canvas_w > MAX_PIXELS:
        what = f"of {width}x{height} would be resized for {crop[1]}x{crop[0]} by way of"
        most = f"{canvas_w}x{max(canvas_h, height)} pixels, more than {MAX_PIXELS // 1_000_000} megapixels"
        raise DecodingError(f"{what} {most}.", "crop the image first.")
    resized = _resize(Image.fromarray(image), size, FILTERS[interpolation])
    if size != (canvas_h, canvas_w):
        padded = Image.new("RGB", (canvas_w, canvas_h), (fill,) * 3)
        padded.paste(resized, (round((canvas_w - size[1]) / 2), round((canvas_h - size[0]) / 2)))
        resized = padded
    top, left = round((canvas_h - crop[0]) / 2), round((canvas_w - crop[1]) / 2)
    return np.array(resized.crop((left, top, left + crop[1], top + crop[0])))


def _resize(image: Image.Image, size: tuple[int, int], filter: Image.Resampling) -> Image.Image:
    """Resizes to (h, w): each row first, then each column. Pillow 13 takes first what is faster, which moves levels."""
    return image.resize((size[1], image.height), filter).resize(size[::-1], filter)


def _cover(height: int, width: int, canvas_h: int, canvas_w: int) -> tuple[int, int]:
    if canvas_w * height >= canvas_h * width:  # the width is scaled more
        return canvas_w * height // width, canvas_w
    return canvas_h, canvas_h * width // height


def _squash(height: int, width: int, canvas_h: int, canvas_w: int) -> tuple[int, int]:
    return canvas_h, canvas_w


def _fit(height: int, width: int, canvas_h: int, canvas_w: int) -> tuple[int, int]:
    if canvas_w * height <= canvas_h * width:
        return max(1, (2 * canvas_w * height + width) // (2 * width)), canvas_w
    return canvas_h, max(1, (2 * canvas_h * width + height) // (2 * height))


RESIZED = {"cover": _cover, "squash": _squash, "letterbox": _fit}  # (h, w) of the resized image
