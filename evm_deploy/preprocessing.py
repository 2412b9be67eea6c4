"""Prepares decoded images as the input of a model, as its manifest says."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from evm_deploy.errors import ImageError
from evm_deploy.images import MAX_PIXELS, UInt8
from evm_deploy.manifest import Preprocessing

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def preprocess(image: UInt8, preprocessing: Preprocessing) -> npt.NDArray[np.float32] | UInt8:
    """Prepares an RGB image, uint8 (H, W, 3), as a batch of one: float32 (1, 3, h, w), or uint8 (1, h, w, 3) if baked.

    `Preprocessing` says how. Raises ImageError: not such an array, or the resized image would have more than 64
    megapixels, as that of a long and narrow one that has to cover the resize size.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ImageError(f"the image is {image.dtype} {image.shape}.", "pass uint8 of shape (H, W, 3) in RGB order.")
    cropped = _crop(image, preprocessing)  # (h, w, 3)
    if preprocessing.channels == "BGR":
        cropped = np.ascontiguousarray(cropped[:, :, ::-1])
    if preprocessing.baked:
        return cropped[None]
    unit = cropped.astype(np.float32) / np.float32(255)
    mean, std = (np.array(value, np.float32) for value in (preprocessing.mean, preprocessing.std))
    return np.ascontiguousarray(((unit - mean) / std).transpose(2, 0, 1)[None])


def _crop(image: UInt8, preprocessing: Preprocessing) -> UInt8:
    h, w = preprocessing.image_size
    height, width = image.shape[:2]
    canvas_h, canvas_w = preprocessing.resize_size
    size = _RESIZED[preprocessing.resize](height, width, canvas_h, canvas_w)
    canvas_h, canvas_w = max(canvas_h, size[0]), max(canvas_w, size[1])  # larger than `size` only for a letterbox
    if max(canvas_h, height) * canvas_w > MAX_PIXELS:
        what = f"an image of {width}x{height} would be resized for {w}x{h} by way of"
        most = f"{canvas_w}x{max(canvas_h, height)} pixels, more than {MAX_PIXELS // 1_000_000} megapixels"
        raise ImageError(f"{what} {most}.", "crop the image first.")
    resized = _resize(Image.fromarray(image), size, _FILTERS[preprocessing.interpolation])
    if size != (canvas_h, canvas_w):
        canvas = Image.new("RGB", (canvas_w, canvas_h), (preprocessing.fill,) * 3)
        canvas.paste(resized, (round((canvas_w - size[1]) / 2), round((canvas_h - size[0]) / 2)))
        resized = canvas
    top, left = round((canvas_h - h) / 2), round((canvas_w - w) / 2)
    return np.array(resized.crop((left, top, left + w, top + h)))


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


_RESIZED = {"cover": _cover, "squash": _squash, "letterbox": _fit}  # (h, w) of the resized image
