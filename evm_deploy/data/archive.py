"""Reads the images of an .npz archive without loading all of it."""

from __future__ import annotations

import math
import shutil
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from evm_deploy.data.sources import hash_array
from evm_deploy.decoding import MAX_PIXELS, UInt8
from evm_deploy.errors import InputError

UNPACKED_BYTES = 2 << 30  # largest compressed archive, which is unpacked into the temporary folder
LABELS_BYTES = 1 << 28
_BLOCK = 1 << 20  # bytes unpacked at a time
FIX = "write it with np.savez(path, images=..., labels=...): uint8 (n, H, W, 3), and a class for each."

Array = npt.NDArray[Any]


class Archive:
    """The array `images` of an .npz file, uint8 (n, H, W, 3). A key is a position.

    A file from np.savez is mapped and read one image at a time; so is what a file from np.savez_compressed holds, once
    it is unpacked into a temporary file, up to 2 GiB. Raises InputError: not such a file.
    """

    kind = "npz"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._images = self._open()
        self.count = len(self._images)

    def labels(self) -> list[Any] | None:
        """The array `labels` with a class for each image; None: there is none."""
        labels = _read_member(self.path, "labels", LABELS_BYTES)
        if labels is None:
            return None
        if labels.shape != (self.count,) or labels.dtype.kind not in "iuU":
            raise InputError(f"labels in {self.path} are {labels.dtype} {labels.shape}, not one for each image.", FIX)
        return list(labels.tolist())

    def read_pixels(self, key: int) -> UInt8:
        return np.array(self._images[key])

    def digest(self, key: int) -> bytes:
        return hash_array(self._images[key])

    def select(self, keys: Sequence[Any]) -> Archive:
        return self

    def __reduce__(self) -> tuple[type[Archive], tuple[Path]]:
        return Archive, (self.path,)  # a worker opens the file again instead of receiving its content

    def _open(self) -> Array:
        images = _read_member(self.path, "images", UNPACKED_BYTES)
        if images is None:
            raise InputError(f"{self.path} has no array 'images'.", FIX)
        good = images.dtype == np.uint8 and images.ndim == 4 and images.shape[3] == 3 and 0 not in images.shape
        if not good or images.shape[1] * images.shape[2] > MAX_PIXELS:
            raise InputError(f"images in {self.path} are {images.dtype} {images.shape}.", FIX)
        return images


def _read_member(path: Path, name: str, limit: int) -> Array | None:
    """Reads one array of an .npz file. Allocates no more than the file holds, and at most `limit` bytes."""
    try:
        with zipfile.ZipFile(path) as archive:
            if f"{name}.npy" not in archive.namelist():
                return None
            info = archive.getinfo(f"{name}.npy")
            if info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & 1:
                return _map_array(path, info)
            if info.file_size > limit:
                fix = "write it with np.savez, uncompressed, or use an image folder."
                raise InputError(f"{name} in {path} takes {info.file_size:,} bytes when unpacked.", fix)
            with archive.open(info) as file:
                return _unpack_array(file, info.file_size)
    except (OSError, ValueError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} is not a readable .npz archive ({error}).", FIX) from error


def _map_array(path: Path, info: zipfile.ZipInfo) -> Array:
    with path.open("rb") as file:
        file.seek(info.header_offset)
        head = file.read(30)  # the name and extra field may have other lengths than in the directory
        file.seek(int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little"), 1)
        shape, fortran, dtype = _read_header(file, info.file_size)
        order: Any = "F" if fortran else "C"
        return np.memmap(path, dtype, "r", file.tell(), shape, order)  # raises if the file is too short


def _unpack_array(file: IO[bytes], size: int) -> Array:
    shape, fortran, dtype = _read_header(file, size)
    with tempfile.TemporaryFile() as unpacked:  # not into memory: a small file can hold gigabytes of zeros
        shutil.copyfileobj(file, unpacked, _BLOCK)
        if unpacked.tell() != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"its header states shape {shape}, and it holds {unpacked.tell()} bytes")
        unpacked.flush()
        return np.memmap(unpacked, dtype, "r", 0, shape, "F" if fortran else "C")  # stays when the file is closed


def _read_header(file: IO[bytes], size: int) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        shape, fortran, dtype = read(file)
    except (SyntaxError, tokenize.TokenError) as error:
        raise ValueError(f"its header is no text of numpy ({error})") from error
    if dtype.hasobject:
        raise ValueError("it holds pickled objects")
    if not all(type(side) is int and side >= 0 for side in shape) or math.prod(shape) * dtype.itemsize > size:
        raise ValueError(f"its header states shape {shape}")
    return shape, fortran, dtype
