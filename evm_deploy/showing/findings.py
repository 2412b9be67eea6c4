"""What was found in one image, in its own pixels: for files, and drawn over it.

A copy of this file and of those that it imports lies in packages for Linux: they import NumPy and Pillow alone.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evm_deploy.decoding import UInt8
from evm_deploy.showing.drawing import draw_boxes, draw_classes, draw_mask
from evm_deploy.showing.masks import Mask, encode_mask, paste_mask

SHOWN = 5  # classes of pixels in a line for people


@dataclass(frozen=True)
class Placement:
    """Where an image of (h, w) `original` lies in the input of a model: in (h, w) `content`, at the upper left."""

    original: tuple[int, int]
    content: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Detection:
    """One thing in an image of (h, w) `size`: its box as corners (x0, y0, x1, y1) in pixels, how likely it is, its
    class from 0 and that's name; `cells`, where there is a mask, the probabilities over its box (rows, columns).
    """

    box: tuple[float, float, float, float]
    score: float
    index: int
    name: str
    size: tuple[int, int]
    cells: npt.NDArray[np.float32] | None = None

    @property
    def bbox(self) -> list[float]:
        """The corner, the width and the height of the box."""
        x0, y0, x1, y1 = self.box
        return [x0, y0, x1 - x0, y1 - y0]

    @property
    def mask(self) -> Mask | None:
        """The pixels that it covers, bool (h, w); made anew each time, since those of many things take much memory."""
        return None if self.cells is None else paste_mask(self.cells, np.array(self.box, np.float32), self.size)

    def to_dict(self) -> dict[str, Any]:
        """As COCO's results have it."""
        said = {"bbox": self.bbox, "score": self.score, "category_id": self.index, "label": self.name}
        mask = self.mask
        return said if mask is None else said | {"segmentation": encode_mask(mask)}


@dataclass(frozen=True, eq=False)
class DetectedThings:
    """The things in an image, best first."""

    things: tuple[Detection, ...]
    label_map = None

    def to_dict(self) -> dict[str, Any]:
        """Every thing."""
        return {"detections": [thing.to_dict() for thing in self.things]}

    def describe(self) -> list[tuple[str, float]]:
        """The name and score of each."""
        return [(thing.name, thing.score) for thing in self.things]

    def draw(self, image: UInt8) -> UInt8:
        """The image (H, W, 3) under the masks and boxes, the best over the others."""
        for thing in reversed(self.things):
            if (mask := thing.mask) is not None:
                image = draw_mask(image, mask, thing.index)
        boxes = np.array([thing.box for thing in self.things], np.float32).reshape(-1, 4)
        names = [f"{thing.name} {thing.score:.2f}" for thing in self.things]
        return draw_boxes(image, boxes, [thing.index for thing in self.things], names)


@dataclass(frozen=True, eq=False)
class PixelClasses:
    """The class of each pixel, (H, W) from 0, and the names of those that are there."""

    label_map: npt.NDArray[np.integer[Any]]
    names: dict[int, str]

    def to_dict(self) -> dict[str, Any]:
        """The share of the pixels that each class has, the largest first."""
        counts = Counter(dict(zip(*map(np.ndarray.tolist, np.unique(self.label_map, return_counts=True)), strict=True)))
        shares = [(index, count / self.label_map.size) for index, count in counts.most_common()]
        return {"classes": [{"category_id": i, "label": self.names[i], "share": share} for i, share in shares]}

    def describe(self) -> list[tuple[str, float]]:
        """The names and shares of the largest."""
        return [(each["label"], each["share"]) for each in self.to_dict()["classes"]]

    def draw(self, image: UInt8) -> UInt8:
        """The image (H, W, 3) under the colours of the classes."""
        return draw_classes(image, self.label_map)


Findings = DetectedThings | PixelClasses


def draw_pictures(findings: Findings, image: UInt8) -> dict[str, UInt8 | npt.NDArray[np.uint16]]:
    """By the ending of a file's name: the drawing over the image (H, W, 3) and, of classes of pixels, their map."""
    pictures: dict[str, UInt8 | npt.NDArray[np.uint16]] = {".png": findings.draw(image)}
    if (label_map := findings.label_map) is not None:
        depth = np.uint8 if label_map.max(initial=0) < 256 else np.uint16
        pictures[".classes.png"] = label_map.astype(depth)
    return pictures


def resize_nearest(label_map: npt.NDArray[Any], placement: Placement) -> npt.NDArray[Any]:
    """A map (H, W) of classes, cut to the content and brought to the original's size: the pixel under each middle."""
    rows, columns = (
        np.minimum(((np.arange(size) + 0.5) * content / size).astype(np.intp), content - 1)
        for size, content in zip(placement.original, placement.content, strict=True)
    )
    resized: npt.NDArray[Any] = label_map[rows][:, columns]
    return resized
