"""Recognises the kind of data, and lists its entries with the source that reads them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

from evm_deploy.data.annotations import Annotations
from evm_deploy.data.archive import Archive
from evm_deploy.data.listing import LIST_SUFFIXES, NO_IMAGES, list_class_folders, list_file, list_folder
from evm_deploy.data.sources import Files, ImageEntry, ImageSource, Items, Noise, get_array
from evm_deploy.errors import InputError, OptionError
from evm_deploy.images import SUFFIXES
from evm_deploy.manifest import Preprocessing

Data = Union[str, "os.PathLike[str]", Iterable[Any]]

HELD_BYTES = 2 << 30  # most bytes of images from a generator, which must fit into memory
MAX_RANDOM = 1_000_000


@dataclass(frozen=True)
class Listing:
    """The entries of some data, and the source that reads them."""

    source: ImageSource
    entries: list[ImageEntry]
    folders: list[str] | None = None  # if folders are classes: all folders, including those without images
    ignored: tuple[str, ...] = ()  # files that are no images, or lie above class folders


def open_data(data: Data, preprocessing: Preprocessing, seed: int) -> Listing:
    """Lists `data` of any kind that `read_samples` accepts. Raises InputError, OptionError."""
    if isinstance(data, str) and data.partition(":")[0] == "random":
        entries = [ImageEntry(i, f"random {i}", None) for i in range(_parse_random_count(data))]
        return Listing(Noise(preprocessing.resize_size, seed), entries)
    if isinstance(data, (str, os.PathLike)):
        return _open_path(Path(data))
    if not isinstance(data, Iterable):
        raise InputError(f"the data is a {type(data).__name__}.", "pass a path, or uint8 arrays (H, W, 3).")
    lazy = hasattr(data, "__len__") and hasattr(data, "__getitem__")
    items: Any = data if lazy else _collect_items(data)
    labels = _collect_labels(items)
    return Listing(Items(items, not lazy), [ImageEntry(i, f"item {i}", label) for i, label in enumerate(labels)])


def list_annotated(data: Data, annotations: Annotations) -> Listing:
    """The images of a folder that are annotated. Raises InputError: it is no folder, or images or annotations lack."""
    if not isinstance(data, (str, os.PathLike)) or not Path(data).is_dir():
        raise InputError(f"annotations are of images in a folder, and {data} is none.", "name the folder of images.")
    names = annotations.list_images(Path(data))
    return Listing(Files("annotated", Path(data)), [ImageEntry(name, name, None) for name in names])


def _open_path(path: Path) -> Listing:
    if path.is_dir():
        try:
            kind, entries, ignored = list_folder(path)
            folders = list_class_folders(path) if kind == "class folders" else None
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror}).", NO_IMAGES) from error
        return Listing(Files(kind, path), entries, folders, tuple(ignored))
    if not path.is_file():
        raise InputError(
            f"{path} does not exist.", f"{NO_IMAGES} For random data, give the number of images: random:32."
        )
    suffix = path.suffix.lower()
    if suffix == ".npz":
        archive = Archive(path)
        labels = archive.labels() or [None] * archive.count
        return Listing(archive, [ImageEntry(i, f"item {i}", label) for i, label in enumerate(labels)])
    if suffix in LIST_SUFFIXES:
        return Listing(Files("list", path.parent), list_file(path))
    if suffix in SUFFIXES:
        return Listing(Files("image", path.parent), [ImageEntry(path.name, path.name, None)])
    raise InputError(f"{path} is not a kind of data that evm-deploy reads.", NO_IMAGES)


def _parse_random_count(text: str) -> int:
    number = text.partition(":")[2]
    if not (number.isascii() and number.isdigit() and 1 <= int(number[:9]) <= MAX_RANDOM):
        raise OptionError(f"{text!r} does not give the number of random images.", "write random:32, for example.")
    return int(number)


def _collect_items(items: Iterable[Any]) -> list[Any]:
    """Collects all items of a generator. Raises InputError: more than 2 GiB."""
    held, size = [], 0
    for item in items:
        array = get_array(item)
        size += 0 if array is None else array.nbytes
        if size > HELD_BYTES:
            fix = "pass a sequence with __len__ and __getitem__, whose items are made on demand."
            raise InputError(f"the generator gives more than {HELD_BYTES >> 30} GiB of images.", fix)
        held.append(item)
    return held


def _collect_labels(items: Sequence[Any]) -> list[Any]:
    """Collects the class of each item; all None if the first item is not a pair. Otherwise reads every item once."""
    count = len(items)
    if not count or not isinstance(items[0], tuple):
        return [None] * count
    return [_read_label(items[index], index) for index in range(count)]


def _read_label(item: Any, index: int) -> str | int:
    label: Any = item[1] if isinstance(item, tuple) and len(item) == 2 else None
    if hasattr(label, "item"):  # a NumPy or torch scalar
        label = label.item()
    if isinstance(label, bool) or not isinstance(label, (int, str)):
        raise InputError(f"item {index} is not a pair of an array and its class.", "give every image its class.")
    return label
