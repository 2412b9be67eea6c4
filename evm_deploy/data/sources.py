"""The sources of images: files, arrays from the caller, and random numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from evm_deploy.decoding import UInt8
from evm_deploy.errors import ImageError
from evm_deploy.files import sha256_file
from evm_deploy.images import load_image

Array = npt.NDArray[Any]


class ImageEntry(NamedTuple):
    """One image of the data: its key in the source, its name, and its class in the data."""

    key: Any
    name: str
    label: str | int | None


class ImageSource(Protocol):
    """Reads the images of one kind of data. Can be pickled, so that workers can read themselves."""

    @property
    def kind(self) -> str: ...

    def read_pixels(self, key: Any) -> UInt8:
        """The image as RGB, uint8 (H, W, 3). Raises ImageError: it cannot be decoded."""
        ...

    def digest(self, key: Any) -> bytes:
        """The sha256 of the data before decoding: the bytes of a file or an array."""
        ...

    def select(self, keys: Sequence[Any]) -> ImageSource:
        """A source for these keys; it may drop the others."""
        ...


@dataclass(frozen=True)
class Files:
    """Image files. A key is a path relative to `root`."""

    kind: str  # "folder", "class folders", "list" or "image"
    root: Path

    def read_pixels(self, key: str) -> UInt8:
        return load_image(self.root / key)

    def digest(self, key: str) -> bytes:
        path = self.root / key
        try:
            return bytes.fromhex(sha256_file(path)) if path.is_file() else bytes(32)
        except OSError:  # not readable, and skipped for that reason
            return bytes(32)

    def select(self, keys: Sequence[Any]) -> Files:
        return self


@dataclass(frozen=True)
class Noise:
    """Random pixels, the same for the same seed. A key is a number."""

    size: tuple[int, int]
    seed: int
    kind: str = "random"

    def read_pixels(self, key: int) -> UInt8:
        return np.random.default_rng([self.seed, key]).integers(0, 256, (*self.size, 3), dtype=np.uint8)

    def digest(self, key: int) -> bytes:
        return hash_array(self.read_pixels(key))

    def select(self, keys: Sequence[Any]) -> Noise:
        return self


@dataclass(frozen=True)
class Items:
    """Items from the caller: arrays, or pairs of an array and its class. A key is a position."""

    items: Sequence[Any] | Mapping[int, Any]
    held: bool  # whether they are in memory; otherwise they are made on demand
    kind: str = "arrays"

    def read_pixels(self, key: int) -> UInt8:
        image = get_array(self.items[key])
        if image is None:
            raise ImageError(f"item {key} is a {type(self.items[key]).__name__}.", "pass uint8 arrays (H, W, 3).")
        return image

    def digest(self, key: int) -> bytes:
        image = get_array(self.items[key])
        return bytes(32) if image is None else hash_array(image)

    def select(self, keys: Sequence[Any]) -> Items:
        return Items({key: self.items[key] for key in keys}, True) if self.held else self


def get_array(item: Any) -> Array | None:
    """The array of an item, which may be a pair of an array and a class; None: it is neither."""
    if isinstance(item, tuple) and len(item) == 2:
        item = item[0]
    return item if isinstance(item, np.ndarray) else None


def hash_array(array: Array) -> bytes:
    """The sha256 of an array's type, shape and values."""
    head = f"{array.dtype} {array.shape}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).digest()
