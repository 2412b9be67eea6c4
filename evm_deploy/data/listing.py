"""Lists the images in a folder or a list file, with the class of each if it is given."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path

from evm_deploy.data.sources import ImageEntry
from evm_deploy.errors import InputError
from evm_deploy.files import read_file
from evm_deploy.images import SUFFIXES

LIST_SUFFIXES = (".txt", ".csv", ".tsv")
LIST_BYTES, LIST_LINES = 1 << 28, 2_000_000  # most that a list file may have
NO_IMAGES = "name a folder of images, a folder of class folders, a list file or an .npz."

# `path/to the/image.jpg golden retriever`: the path ends with the first suffix of an image file.
_LINE = re.compile(rf"(.+?(?:{'|'.join(map(re.escape, SUFFIXES))}))(?:[ ,\t]+(.*))?", re.IGNORECASE)


def list_folder(root: Path) -> tuple[str, list[ImageEntry], list[str]]:
    """Lists a folder: its kind, its images in the order of their names, and the ignored files.

    The kind is "class folders" if images are below two folders of the first level, whose names are their classes, and
    at most one in ten, but at least one, is not: that is ignored. It is too if all are below one folder. Otherwise it
    is "folder". Raises InputError: it has no images.
    """
    images: list[str] = []
    ignored: list[str] = []
    for name in _walk(root):
        (images if name.lower().endswith(SUFFIXES) else ignored).append(name)
    if not images:
        what = f"none of its {len(ignored)} files is an image" if ignored else "it is empty"
        raise InputError(f"{root} has no images: {what}.", NO_IMAGES)
    stray = [name for name in images if "/" not in name]
    classed = [ImageEntry(name, name, name.split("/")[0]) for name in images if "/" in name]
    if not stray or (len({entry.label for entry in classed}) > 1 and len(stray) <= count_tolerated(len(images))):
        return "class folders", classed, sorted(ignored + stray)
    return "folder", [ImageEntry(name, name, None) for name in images], ignored


def count_tolerated(total: int) -> int:
    """How many of so many images may be out of place or damaged: one in ten, but at least one, and never all."""
    return min(max(1, total // 10), total - 1)


def list_class_folders(root: Path) -> list[str]:
    """The folders of the first level, including those without images, which count in the order of classes."""
    return sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))


def list_file(path: Path) -> list[ImageEntry]:
    """Lists the images in a text file. A line is `path` or `path class`, separated by a space, a tab or a comma.

    Paths are relative to the file's folder and must stay inside it. Empty lines, and lines that begin with #, are
    ignored. Raises InputError: not such a file, a line without an image, a path that leaves the folder, or only some
    lines with a class.
    """
    entries, root = [], Path(os.path.realpath(path.parent))
    for number, (name, label) in _read_lines(path):
        where = f"line {number} of {path}"
        if not name.lower().endswith(SUFFIXES):
            raise InputError(f"{where} names no image: {name[:200]!r}.", "write `path class`, one image on each line.")
        if "\0" in name or not Path(os.path.realpath(root / name)).is_relative_to(root):
            fix = "put the list into a folder that has all its images, and name them relative to it."
            raise InputError(f"{where} leaves the folder of the list: {name[:200]!r}.", fix)
        entries.append(ImageEntry(name, name, label))
    if not entries:
        raise InputError(f"{path} names no images.", NO_IMAGES)
    if len({entry.label is None for entry in entries}) > 1:
        raise InputError(f"{path} gives a class on some lines and none on others.", "give every image its class.")
    return entries


def _read_lines(path: Path) -> Iterator[tuple[int, tuple[str, str | None]]]:
    for number, line in enumerate(_split_lines(path), 1):
        if number > LIST_LINES:
            raise InputError(f"{path} has more than {LIST_LINES:,} lines.", "leave some out, or split the list.")
        if not line.strip() or line.startswith("#"):
            continue
        try:
            name, label = _split(line.strip(), path.suffix.lower())
        except csv.Error as error:
            raise InputError(f"line {number} of {path} is not CSV ({error}).", "write `path,class`.") from None
        if number == 1 and path.suffix.lower() == ".csv" and not name.lower().endswith(SUFFIXES):
            continue  # names of columns
        yield number, (name, label)


def _split_lines(path: Path) -> Iterator[str]:
    """The lines of a text file, one after the other: all of them would take many times the memory of the file."""
    content = io.BytesIO(read_file(path, LIST_BYTES, _make_error))
    try:
        yield from io.TextIOWrapper(content, "utf-8-sig")
    except UnicodeDecodeError:
        raise _make_error(f"{path} is not UTF-8 text.") from None


def _make_error(cause: str) -> InputError:
    return InputError(cause, "name a UTF-8 text file with one image on each line.")


def _split(line: str, suffix: str) -> tuple[str, str | None]:
    if suffix == ".csv":
        cells = [cell.strip() for cell in next(csv.reader([line], skipinitialspace=True))]
        return cells[0], (cells[1] or None) if len(cells) > 1 else None
    if "\t" in line:
        name, label = line.split("\t", 1)
        return name.strip(), label.strip() or None
    match = _LINE.fullmatch(line)
    return (match[1], (match[2] or "").strip() or None) if match else (line, None)


def _walk(root: Path) -> Iterator[str]:
    """The files below `root`, without hidden ones, relative with `/`, in the order of their names.

    A folder that is a link is followed only at the first level, so that loops end.
    """
    with os.scandir(root) as listing:
        first = sorted(entry.name for entry in listing if not entry.name.startswith("."))
    for name in first:
        if not (root / name).is_dir():
            yield name
            continue
        found = []
        for folder, folders, files in os.walk(root / name):
            folders[:] = [each for each in folders if not each.startswith(".")]
            found += [Path(folder, file).relative_to(root).as_posix() for file in files if not file.startswith(".")]
        yield from sorted(found)
