"""A folder of label maps: for each image a picture of the same name, whose pixels are numbers of classes."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from evm_deploy.data.listing import list_folder
from evm_deploy.decoding import MAX_BYTES, MAX_PIXELS
from evm_deploy.errors import InputError, first_line
from evm_deploy.files import read_file
from evm_deploy.tasks.truth import IGNORED, LABEL_MAP, TrueClasses

MODES = ("L", "P", "1", "I;16", "I")  # of pictures whose pixels are numbers
FIX = "give each image a PNG of one channel, of its size and by its name, whose pixels are numbers of classes."


@dataclass(frozen=True)
class LabelMaps:
    """Maps by their paths in a folder. zero_is_ignored: 0 does not count, and classes are from 1, as in ADE20K."""

    folder: Path
    zero_is_ignored: bool
    count: int | None = None  # of the model's classes, where it says so
    sha256: str = ""
    gives: ClassVar[str] = LABEL_MAP
    has_masks: ClassVar[bool] = False
    classes: ClassVar[None] = None

    def list_images(self, folder: Path) -> list[str]:
        """Every image in the folder. Raises InputError: one has no map."""
        try:
            names = [entry.name for entry in list_folder(folder)[1]]
        except OSError as error:
            raise InputError(f"{folder} cannot be read ({error.strerror}).", "name a folder of images.") from error
        for name in names:
            if not self._find(name).is_file():
                raise InputError(f"{self.folder} has no {_name_map(name)} for the image {name}.", FIX)
        return names

    def number_classes(self, labels: Sequence[str] | None) -> LabelMaps:
        """Numbers are indices already."""
        return dataclasses.replace(self, count=None if labels is None else len(labels))

    def read(self, name: str, size: tuple[int, int]) -> TrueClasses:
        """The map of an image. Raises InputError: it is of another size, or has a class that the model has not."""
        path = self._find(name)
        found = _read_map(path)
        if found.shape != size:
            raise InputError(f"{path} is {found.shape[1]}x{found.shape[0]}, its image {size[1]}x{size[0]}.", FIX)
        if self.zero_is_ignored:  # before 255 is one less
            found = np.where((found == 0) | (found == IGNORED), IGNORED, found - 1)
        highest = int(found[found != IGNORED].max(initial=0))
        if self.count is not None and highest >= self.count:
            raise InputError(
                f"{path} has class {highest}; the model has classes 0 to {self.count - 1}.",
                "use the maps of this model; where 0 stands for no class, add --reduce-zero-label.",
            )
        return TrueClasses(found)

    def _find(self, name: str) -> Path:
        return self.folder / _name_map(name)


def list_label_maps(folder: Path, zero_is_ignored: bool) -> LabelMaps:
    """The maps in a folder; each is read when it is asked for."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    if not names:
        raise InputError(f"{folder} has no label maps.", FIX)
    said = hashlib.sha256("\0".join(names).encode("utf-8", "surrogateescape")).hexdigest()
    return LabelMaps(folder.absolute(), zero_is_ignored, sha256=said)


def _name_map(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(".png"))


def _read_map(path: Path) -> npt.NDArray[Any]:
    """The numbers of the pixels (h, w). Raises InputError."""
    data = read_file(path, MAX_BYTES, lambda cause: InputError(cause, FIX))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
                if image.mode not in MODES or image.width * image.height > MAX_PIXELS:
                    raise ValueError(f"its mode is {image.mode} and its size {image.width}x{image.height}")
                return np.asarray(image).astype(np.int64)
    except MemoryError:
        raise
    except Exception as error:  # for damaged files, Pillow raises OSError, SyntaxError, ...
        raise InputError(f"{path} is no label map ({first_line(error)}).", FIX) from error
