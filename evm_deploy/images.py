"""From an image file to the model's input, as the evaluation transform of the paper does it."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from evm_deploy.errors import ImageError
from evm_deploy.manifest import Preprocessing

MAX_PIXELS = 64_000_000
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # decoders that run no other program

UInt8 = npt.NDArray[np.uint8]


def load_image(path: str | os.PathLike[str]) -> UInt8:
    """Decodes an image file to RGB, uint8 (H, W, 3), turned upright as its EXIF orientation says.

    Alpha is dropped, grey and palette images become RGB, 16 bits a channel become 8, of an animation the first frame
    counts. Raises ImageError: not there, not an image, damaged, or more than 64 megapixels (found before decoding).
    """
    if not Path(path).is_file():
        raise ImageError(f"{path} is not a file.", "name an image file.")
    return np.array(_eight_bits(_decode(path), path).convert("RGB"))


def preprocess(image: UInt8, preprocessing: Preprocessing) -> npt.NDArray[np.float32] | UInt8:
    """From an RGB image, uint8 (H, W, 3), to a batch of one: float32 (1, 3, h, w), or uint8 (1, h, w, 3) if baked.

    Bicubic with antialiasing to cover the resize size, then a centre crop: what torchvision's Resize(256) and
    CenterCrop(224) do to a PIL image. Raises ImageError: not such an array, or so narrow that covering the
    resize size takes more than 64 megapixels.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ImageError(f"the image is {image.dtype} {image.shape}.", "pass uint8 of shape (H, W, 3) in RGB order.")
    cropped = _crop(image, preprocessing)  # (h, w, 3)
    if preprocessing.baked:
        return cropped[None]
    unit = cropped.astype(np.float32) / np.float32(255)
    mean, std = (np.array(value, np.float32) for value in (preprocessing.mean, preprocessing.std))
    return np.ascontiguousarray(((unit - mean) / std).transpose(2, 0, 1)[None])


def _decode(path: str | os.PathLike[str]) -> Image.Image:
    """The pixels, upright, in whatever mode the file has."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own limits and remarks on metadata; ours is below
            with Image.open(path, formats=FORMATS) as image:
                small = image.width * image.height <= MAX_PIXELS
                decoded = ImageOps.exif_transpose(image) if small else None
    except UnidentifiedImageError:
        raise ImageError(f"{path} is not an image.", f"use one of these kinds: {', '.join(FORMATS)}.") from None
    except Image.DecompressionBombError:
        decoded = None
    except Exception as error:  # on damaged files Pillow lets out OSError, SyntaxError, TypeError, struct.error, ...
        raise ImageError(f"{path} is damaged or truncated ({error}).", "copy or save the image again.") from error
    if decoded is None:
        raise ImageError(f"{path} has more than {MAX_PIXELS // 1_000_000} megapixels.", "make the image smaller first.")
    return decoded


def _crop(image: UInt8, preprocessing: Preprocessing) -> UInt8:
    (h, w), (cover_h, cover_w) = preprocessing.image_size, preprocessing.resize_size
    height, width = image.shape[:2]
    if cover_w * height >= cover_h * width:  # the width is what the cover stretches more
        size = (cover_w * height // width, cover_w)
    else:
        size = (cover_h, cover_h * width // height)
    if size[0] * size[1] > MAX_PIXELS:
        raise ImageError(f"an image of {width}x{height} is too narrow for {w}x{h}.", "crop the image first.")
    resized = Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC)
    top, left = round((size[0] - h) / 2), round((size[1] - w) / 2)
    return np.array(resized.crop((left, top, left + w, top + h)))


def _eight_bits(image: Image.Image, path: str | os.PathLike[str]) -> Image.Image:
    """Modes of 16 bits and more, which `convert` would clip, with their high byte kept."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image
    values = np.asarray(image)
    if image.mode == "F" or not 0 <= values.min() <= values.max() < 1 << 16:
        raise ImageError(f"{path} has pixels whose range is not known.", "save it with 8 or 16 bits a channel.")
    return Image.fromarray((values >> 8).astype(np.uint8))
