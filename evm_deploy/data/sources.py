"""Where images come from: files, arrays that a program hands over, or random numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from evm_deploy.errors import ImageError
from evm_deploy.files import sha256_file
from evm_deploy.images import UInt8, load_image

Array = npt.NDArray[Any]


class Entry(NamedTuple):
    """One image of the data: how the source finds it, what people call it, and its class as the data says it."""

    key: Any
    name: str
    label: str | int | None


class Source(Protocol):
    """Reads the images of some kind of data. Can be pickled, so that workers read for themselves."""

    @property
    def kind(self) -> str: ...

    def pixels(self, key: Any) -> UInt8:
        """The image as RGB, uint8 (H, W, 3). Raises ImageError: it cannot be decoded."""
        ...

    def digest(self, key: Any) -> bytes:
        """The sha256 of what is there before decoding: a file's bytes, an array's."""
        ...

    def part(self, keys: Sequence[Any]) -> Source:
        """One that may know these only."""
        ...


@dataclass(frozen=True)
class Files:
    """Image files. A key is a path relative to `root`."""

    kind: str  # "folder", "class folders", "list" or "image"
    root: Path

    def pixels(self, key: str) -> UInt8:
        return load_image(self.root / key)

    def digest(self, key: str) -> bytes:
        path = self.root / key
        try:
            return bytes.fromhex(sha256_file(path)) if path.is_file() else bytes(32)
        except OSError:  # not readable: it has been skipped as such
            return bytes(32)

    def part(self, keys: Sequence[Any]) -> Files:
        return self


@dataclass(frozen=True)
class Noise:
    """Random pixels, the same for the same seed. A key is a number."""

    size: tuple[int, int]
    seed: int
    kind: str = "random"

    def pixels(self, key: int) -> UInt8:
        return np.random.default_rng([self.seed, key]).integers(0, 256, (*self.size, 3), dtype=np.uint8)

    def digest(self, key: int) -> bytes:
        return hash_array(self.pixels(key))

    def part(self, keys: Sequence[Any]) -> Noise:
        return self


@dataclass(frozen=True)
class Items:
    """What a program handed over: arrays, or pairs of an array and its class. A key is a position."""

    items: Sequence[Any] | Mapping[int, Any]
    held: bool  # they are in memory anyway; others are made when asked for
    kind: str = "arrays"

    def pixels(self, key: int) -> UInt8:
        image = array_of(self.items[key])
        if image is None:
            raise ImageError(f"item {key} is a {type(self.items[key]).__name__}.", "pass uint8 arrays (H, W, 3).")
        return image

    def digest(self, key: int) -> bytes:
        image = array_of(self.items[key])
        return bytes(32) if image is None else hash_array(image)

    def part(self, keys: Sequence[Any]) -> Items:
        return Items({key: self.items[key] for key in keys}, True) if self.held else self


def array_of(item: Any) -> Array | None:
    """The array of an item, which may be a pair of it and a class; None where it is neither."""
    if isinstance(item, tuple) and len(item) == 2:
        item = item[0]
    return item if isinstance(item, np.ndarray) else None


def hash_array(array: Array) -> bytes:
    """The sha256 of an array's type, shape and values."""
    head = f"{array.dtype} {array.shape}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).digest()
