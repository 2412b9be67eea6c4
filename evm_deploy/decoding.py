"""From the bytes of an image file to RGB pixels.

A copy of this file lies in packages for Linux, so that their loader reads what `predict` reads: it imports NumPy and
Pillow alone.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

MAX_BYTES = 1 << 29
MAX_PIXELS = 64_000_000
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # formats whose decoders start no other program

UInt8 = npt.NDArray[np.uint8]

_PNG = b"\x89PNG\r\n\x1a\n"
_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")  # the chunks of PNG that a reader must know
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a pixel, by PNG's type of colour
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_BLOCK = 1 << 16  # bytes inflated at a time
_EXIF = b"Exif\0\0"  # before EXIF in JPEG, and in some WebP
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class DecodingError(ValueError):
    """Why bytes cannot be used as an image: the rest of a sentence that begins with the file's name, and a fix."""

    def __init__(self, cause: str, fix: str) -> None:
        super().__init__(f"{cause} Fix: {fix}")
        self.cause = cause
        self.fix = fix


def decode_image(data: bytes) -> UInt8:
    """The first picture in an image file as RGB, uint8 (H, W, 3), turned upright by its EXIF orientation.

    Alpha is dropped, grey and palette images become RGB, 16 bits per channel become their high 8, colour profiles are
    not applied. Raises DecodingError: not an image, damaged, or more than 64 megapixels (checked before decoding).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own limit and remarks on metadata; our limit is below
            exif = _check_png(data) if data.startswith(_PNG) else None
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise Image.DecompressionBombError
                image.load()
                if exif is None:
                    exif = image.info.get("exif", b"").removeprefix(_EXIF)
                turn = _TURNS.get(_read_orientation(exif))
                upright = image if turn is None else image.transpose(turn)
                if image.format == "TIFF":  # whose own tags hold the orientation
                    upright = ImageOps.exif_transpose(image)
                return convert_to_rgb(upright)
    except (DecodingError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise DecodingError("is not an image.", f"use one of these kinds: {', '.join(FORMATS)}.") from None
    except Image.DecompressionBombError:
        most = f"{MAX_PIXELS // 1_000_000} megapixels"
        raise DecodingError(f"has more than {most}.", "make the image smaller first.") from None
    except Exception as error:  # for damaged files, Pillow raises OSError, SyntaxError, TypeError, struct.error, ...
        raise DecodingError(f"is damaged or truncated ({error}).", "copy or save the image again.") from error


def _check_png(data: bytes) -> bytes:
    """The EXIF in a PNG, or nothing. Raises ValueError, struct.error, zlib.error for damage that Pillow overlooks."""
    chunks: dict[bytes, list[memoryview]] = {}
    view, at, name = memoryview(data), len(_PNG), b""
    while name != b"IEND":
        length, name = struct.unpack_from(">I4s", data, at)
        (checksum,) = struct.unpack_from(">I", data, at + 8 + length)
        if zlib.crc32(view[at + 4 : at + 8 + length]) != checksum:
            raise ValueError("a checksum differs")
        if name[:1].isupper() and (name not in _CRITICAL or (name == b"IHDR") != (at == len(_PNG))):
            raise ValueError("a chunk is out of place")
        chunks.setdefault(name, []).append(view[at + 8 : at + 8 + length])
        at += 12 + length
    width, height, depth, kind, compression, _, interlaced = struct.unpack(">IIBBBBB", chunks[b"IHDR"][0])
    if compression or (kind == 3 and b"PLTE" not in chunks):
        raise ValueError("its header is of another kind")
    if width * height <= MAX_PIXELS:  # else it is not decoded
        needed = sum(
            rows * (1 + (columns * _SAMPLES[kind] * depth + 7) // 8)
            for x, y, dx, dy in (_PASSES if interlaced else ((0, 0, 1, 1),))
            if (columns := (width - x + dx - 1) // dx) > 0 and (rows := (height - y + dy - 1) // dy) > 0
        )
        _check_inflated(chunks[b"IDAT"], needed)
    return bytes(chunks.get(b"eXIf", [b""])[0])


def _check_inflated(parts: list[memoryview], needed: int) -> None:
    """Raises ValueError where zlib's stream has fewer than `needed` bytes."""
    inflater = zlib.decompressobj()
    for part in parts:
        for at in range(0, len(part), _BLOCK):
            rest = bytes(part[at : at + _BLOCK])
            while rest and needed > 0:
                needed -= len(inflater.decompress(rest, _BLOCK))
                rest = inflater.unconsumed_tail
    if needed > 0 and needed > len(inflater.flush()):
        raise ValueError("rows are missing")


def _read_orientation(exif: bytes) -> int:
    """EXIF's orientation, 1 to 8; 1 where it has none, or is not EXIF."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (table,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, table)
        for at in range(table + 2, table + 2 + 12 * count, 12):
            tag, kind, values, value = struct.unpack_from(f"{order}HHIHxx", exif, at)
            if tag == 0x0112:
                return value if (kind, values) == (3, 1) and value in _TURNS else 1
    except struct.error:  # cut off
        pass
    return 1


def convert_to_rgb(image: Image.Image) -> UInt8:
    """An image of any mode as RGB, uint8 (H, W, 3): modes of 16 bits and more, which Pillow clips, by their high byte.

    Raises DecodingError: pixels of an unknown range.
    """
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return np.array(image.convert("RGB"))
    values = np.asarray(image)
    if image.mode == "F" or not 0 <= values.min() <= values.max() < 1 << 16:
        raise DecodingError("has pixels with an unknown range.", "save it with 8 or 16 bits per channel.")
    return (values >> 8).astype(np.uint8)[..., None].repeat(3, axis=2)
