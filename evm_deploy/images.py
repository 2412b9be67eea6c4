"""Decodes image files of every usual kind to the same RGB pixels."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from evm_deploy.errors import ImageError

MAX_PIXELS = 64_000_000
SUFFIXES = tuple(".png .jpg .jpeg .jpe .jfif .webp .bmp .gif .tif .tiff .ppm .pgm .pbm .pnm".split())  # of images
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # formats whose decoders start no other program

UInt8 = npt.NDArray[np.uint8]


def load_image(path: str | os.PathLike[str]) -> UInt8:
    """Decodes an image file to RGB, uint8 (H, W, 3), turned upright by its EXIF orientation.

    Alpha is dropped; grey and palette images become RGB; 16 bits per channel become 8; only the first frame of an
    animation is used. Raises ImageError: missing, not an image, damaged, or more than 64 megapixels (checked before
    decoding).
    """
    if not Path(path).is_file():
        raise ImageError(f"{path} is not a file.", "name an image file.")
    return np.array(_convert_to_eight_bits(_decode(path), path).convert("RGB"))


def _decode(path: str | os.PathLike[str]) -> Image.Image:
    """The upright pixels, in the mode of the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own limit and remarks on metadata; our limit is below
            with Image.open(path, formats=FORMATS) as image:
                small = image.width * image.height <= MAX_PIXELS
                decoded = ImageOps.exif_transpose(image) if small else None
    except UnidentifiedImageError:
        raise ImageError(f"{path} is not an image.", f"use one of these kinds: {', '.join(FORMATS)}.") from None
    except Image.DecompressionBombError:
        decoded = None
    except Exception as error:  # for damaged files, Pillow raises OSError, SyntaxError, TypeError, struct.error, ...
        raise ImageError(f"{path} is damaged or truncated ({error}).", "copy or save the image again.") from error
    if decoded is None:
        raise ImageError(f"{path} has more than {MAX_PIXELS // 1_000_000} megapixels.", "make the image smaller first.")
    return decoded


def _convert_to_eight_bits(image: Image.Image, path: str | os.PathLike[str]) -> Image.Image:
    """Converts modes of 16 bits and more, which `convert` would clip, to their high byte."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image
    values = np.asarray(image)
    if image.mode == "F" or not 0 <= values.min() <= values.max() < 1 << 16:
        raise ImageError(f"{path} has pixels with an unknown range.", "save it with 8 or 16 bits per channel.")
    return Image.fromarray((values >> 8).astype(np.uint8))
