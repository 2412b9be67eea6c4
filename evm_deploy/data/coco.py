"""COCO's JSON: the things in images, with boxes and masks."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from evm_deploy.data.classes import match_classes
from evm_deploy.errors import InputError
from evm_deploy.files import check_relative, read_file
from evm_deploy.jsontext import read_dataclass
from evm_deploy.showing.masks import decode_lengths
from evm_deploy.tasks.truth import THINGS, Thing, TrueThings

LARGEST = 1 << 28  # bytes of a file
MOST_PIXELS = 1 << 26  # of an image
FIX = "name a file as COCO has it: images, annotations and categories."


@dataclass(frozen=True)
class _Image:
    __pydantic_config__: ClassVar[Any] = {"strict": True}

    id: int
    file_name: str
    width: int
    height: int


@dataclass(frozen=True)
class _Annotation:
    __pydantic_config__: ClassVar[Any] = {"strict": True}

    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    area: float | None = None
    iscrowd: int = 0
    segmentation: Any = None


@dataclass(frozen=True)
class _Category:
    __pydantic_config__: ClassVar[Any] = {"strict": True}

    id: int
    name: str


@dataclass(frozen=True)
class _File:
    images: tuple[_Image, ...]
    annotations: tuple[_Annotation, ...]
    categories: tuple[_Category, ...]


@dataclass(frozen=True, eq=False)
class CocoAnnotations:
    """The content of a file: what is in each image, by its name, and the names of the classes, by COCO's numbers."""

    sha256: str
    images: Mapping[str, _Image]
    things: Mapping[str, tuple[_Annotation, ...]]
    names: Mapping[int, str]
    indices: Mapping[int, int] = field(default_factory=dict)
    ordered: bool = False  # whether the order of COCO's numbers says which class is which
    gives: ClassVar[str] = THINGS

    @property
    def has_masks(self) -> bool:
        """Whether every thing has one."""
        return all(each.segmentation is not None for things in self.things.values() for each in things)

    def list_images(self, folder: Path) -> list[str]:
        """Every image that the file names. Raises InputError: one is not in the folder."""
        for name in self.images:
            if not (folder / name).is_file():
                raise InputError(f"{folder} has no image {name!r}.", "name the folder with the images of the file.")
        return sorted(self.images)

    def number_classes(self, labels: Sequence[str] | None) -> CocoAnnotations:
        """With the model's index of each class that things have; without names of its classes, COCO's order counts.

        Raises InputError: things have a class that the model has not.
        """
        used = {each.category_id for things in self.things.values() for each in things}
        order = sorted(self.names)
        if labels is None:
            return dataclasses.replace(self, indices={n: i for i, n in enumerate(order)}, ordered=True)
        found = match_classes([self.names[number] for number in order if number in used], labels, None)
        return dataclasses.replace(self, indices={number: found[self.names[number]] for number in used})

    @property
    def classes(self) -> tuple[str, ...] | None:
        """All of them, in the order of COCO's numbers, where it counts."""
        return tuple(self.names[number] for number in sorted(self.names)) if self.ordered else None

    def read(self, name: str, size: tuple[int, int]) -> TrueThings:
        """The things in an image. Raises InputError: it is of another size than the file says."""
        said = self.images[name]
        if size != (said.height, said.width):
            what = f"{name} is {size[1]}x{size[0]}, and its annotations are of {said.width}x{said.height}."
            raise InputError(what, "evaluate on the images that were annotated.")
        return TrueThings(tuple(self._make_thing(each) for each in self.things.get(name, ())), size)

    def _make_thing(self, said: _Annotation) -> Thing:
        x, y, width, height = said.bbox
        area = width * height if said.area is None else said.area
        box = (x, y, x + width, y + height)
        return Thing(box, area, self.indices[said.category_id], bool(said.iscrowd), said.segmentation)


def read_coco(path: Path) -> CocoAnnotations:
    """The annotations in a file. Raises InputError: it is no such file, or says what cannot be."""
    content = read_file(path, LARGEST, lambda cause: InputError(cause, FIX))
    found = read_dataclass(_File, content, str(path), InputError, FIX, "COCO's JSON")
    try:
        return _make_annotations(found, hashlib.sha256(content).hexdigest())
    except ValueError as error:
        raise InputError(f"{path} is not COCO's JSON: {error}.", FIX) from None


def _make_annotations(found: _File, sha256: str) -> CocoAnnotations:
    """Raises ValueError."""
    for what, keys in (
        ("image", [each.id for each in found.images]),
        ("file name", [each.file_name for each in found.images]),
        ("category", [each.id for each in found.categories]),
        ("category", [each.name for each in found.categories]),
    ):
        if twice := next((key for key, count in Counter(keys).items() if count > 1), None):
            raise ValueError(f"{what} {str(twice)[:100]!r} is there twice")
    if not found.images:
        raise ValueError("it has no images")
    for image in found.images:
        check_relative(image.file_name)
        if not (min(image.width, image.height) > 0 and image.width * image.height <= MOST_PIXELS):
            raise ValueError(f"image {image.id} is {image.width}x{image.height}")
    images, names = {each.id: each for each in found.images}, {each.id: each.name for each in found.categories}
    things: dict[str, list[_Annotation]] = {}
    for number, each in enumerate(found.annotations):
        if each.image_id not in images or each.category_id not in names:
            raise ValueError(f"annotation {number} is of an image or category that is not there")
        problem = _find_problem(each, images[each.image_id])
        if problem:
            raise ValueError(f"annotation {number} has {problem}")
        things.setdefault(images[each.image_id].file_name, []).append(each)
    by_name = {each.file_name: each for each in found.images}
    return CocoAnnotations(sha256, by_name, {name: tuple(each) for name, each in things.items()}, names)


def _find_problem(said: _Annotation, image: _Image) -> str | None:
    """What is wrong with a box, an area or a mask: pycocotools reads them in C."""
    numbers = (*said.bbox, 0.0 if said.area is None else said.area)
    if not all(math.isfinite(each) for each in numbers) or min(numbers[2:]) < 0:
        return f"the box {list(said.bbox)} or area {said.area}"
    if said.segmentation is None:
        return None
    try:
        fits = _is_mask(said.segmentation, image)
    except (TypeError, ValueError, KeyError):
        fits = False
    return None if fits else "a segmentation that is none of its image"


def _is_mask(said: Any, image: _Image) -> bool:
    """Whether it is polygons about the image, or run lengths of its size."""
    if isinstance(said, dict):
        counts = decode_lengths(said["counts"]) if isinstance(said["counts"], str) else said["counts"]
        right = all(type(count) is int and count >= 0 for count in counts)
        return said["size"] == [image.height, image.width] and right and sum(counts) == image.height * image.width
    sides = (image.width, image.height)
    return bool(said) and all(
        len(polygon) >= 6
        and len(polygon) % 2 == 0
        and all(
            type(value) in (int, float) and -sides[i % 2] <= value <= 2 * sides[i % 2]
            for i, value in enumerate(polygon)
        )
        for polygon in said
    )
