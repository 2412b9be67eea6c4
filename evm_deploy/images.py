"""Decodes image files of every usual kind to the same RGB pixels."""

from __future__ import annotations

import os
from pathlib import Path

from evm_deploy.decoding import MAX_BYTES, DecodingError, UInt8, decode_image
from evm_deploy.errors import ImageError, InputError
from evm_deploy.files import read_file

SUFFIXES = tuple(".png .jpg .jpeg .jpe .jfif .webp .bmp .gif .tif .tiff .ppm .pgm .pbm .pnm".split())  # of images


def list_image_files(path: Path) -> list[Path]:
    """The images in a folder, in the order of their names; else `path` itself. Raises InputError: there are none."""
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.glob("*") if file.suffix.lower() in SUFFIXES)
    if not files:
        raise InputError(f"there are no images in {path}.", "name an image file, or a folder of them.")
    return files


def load_image(path: str | os.PathLike[str]) -> UInt8:
    """Decodes an image file to RGB, uint8 (H, W, 3), as `decode_image` does.

    Raises ImageError: missing, not an image, damaged, too many bytes or pixels.
    """
    data = read_file(Path(path), MAX_BYTES, lambda cause: ImageError(cause, "name an image file."))
    try:
        return decode_image(data)
    except DecodingError as error:
        raise ImageError(f"{path} {error.cause}", error.fix) from error
