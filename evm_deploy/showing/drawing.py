"""Draws what was found over the image: boxes with their names, masks, and the classes of pixels."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from evm_deploy.decoding import UInt8

COVER = 0.5  # of a colour over the image
_TURN = 0.61803398875  # of the circle of hues: neighbouring classes are far apart, and no two are alike


def pick_colour(index: int) -> tuple[int, int, int]:
    """RGB of a class, the same in every image."""
    red, green, blue = colorsys.hsv_to_rgb(index * _TURN % 1, (0.9, 0.55)[index // 12 % 2], 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_classes(image: UInt8, classes: npt.NDArray[np.integer[Any]]) -> UInt8:
    """The image (H, W, 3) under the colours of its pixels' classes (H, W); classes below 0 have none."""
    table = np.array([pick_colour(index) for index in range(int(classes.max(initial=0)) + 1)], np.float32)
    covered = classes >= 0
    drawn: UInt8 = image.copy()
    drawn[covered] = np.rint((1 - COVER) * image[covered] + COVER * table[classes[covered]])
    return drawn


def draw_mask(image: UInt8, mask: npt.NDArray[np.bool_], index: int) -> UInt8:
    """The image (H, W, 3) with the pixels of a mask (H, W) in the colour of class `index`."""
    return draw_classes(image, np.where(mask, index, -1))


def draw_boxes(
    image: UInt8, boxes: npt.NDArray[np.floating[Any]], classes: Sequence[int], names: Sequence[str]
) -> UInt8:
    """The image (H, W, 3) with boxes (n, 4), as corners in pixels, in the colours of their classes, named.

    The first box is drawn last, over the others.
    """
    drawn = Image.fromarray(image)
    pen, line = ImageDraw.Draw(drawn), max(1, round(max(drawn.size) / 400))
    font = ImageFont.load_default(size=max(10, round(max(drawn.size) / 50)))
    for box, index, name in reversed(list(zip(boxes.tolist(), classes, names, strict=True))):
        colour = pick_colour(index)
        left, top = max(0.0, box[0]), max(0.0, box[1])
        pen.rectangle((left, top, max(left, box[2]), max(top, box[3])), outline=colour, width=line)
        _write_name(pen, font, (left, top), name, colour)
    return np.array(drawn)


def _write_name(
    pen: ImageDraw.ImageDraw, font: Any, corner: tuple[float, float], name: str, colour: tuple[int, int, int]
) -> None:
    """A name on a field of the colour: above the corner where there is room, else within the box."""
    shown = name.encode("ascii", "replace").decode()  # what the font without a file has
    left, top, right, bottom = pen.textbbox((0, 0), shown, font=font)
    width, height = right - left + 4, bottom - top + 4
    x, y = corner[0], corner[1] - height if corner[1] >= height else corner[1]
    pen.rectangle((x, y, x + width, y + height), fill=colour)
    dark = sum(colour) > 3 * 140
    pen.text((x + 2 - left, y + 2 - top), shown, fill=(0, 0, 0) if dark else (255, 255, 255), font=font)
