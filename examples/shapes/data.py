"""Shapes scattered over a noisy ground; each image is drawn from its split and its number alone.

Written as detectors and segmenters are evaluated: images, their boxes and masks as COCO's JSON, and a folder of masks.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from evm_deploy.showing.masks import encode_mask

SHAPES = ("disc", "square", "triangle", "ring")
GROUND = "ground"  # the class of the pixels of no shape: the first of the segmenter's
SIDE = 160  # pixels of an image
SMALLEST, LARGEST, TRIES = 20, 64, 8  # pixels of a shape's extent; shapes of which those that touch none are drawn
SPLITS = {"training": 0, "calibration": 1, "held-out": 2}  # a part of every seed: no image is in two of them

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Scene:
    """An image (SIDE, SIDE, 3), the class of each shape in it (index of SHAPES) and its pixels (n, SIDE, SIDE)."""

    image: npt.NDArray[np.uint8]
    classes: npt.NDArray[np.int64]
    masks: Mask

    @property
    def boxes(self) -> npt.NDArray[np.float32]:
        """The corners (x0, y0, x1, y1) of each shape, (n, 4)."""
        found = []
        for mask in self.masks:
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            found.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
        return np.array(found, np.float32).reshape(-1, 4)

    @property
    def label_map(self) -> npt.NDArray[np.uint8]:
        """The class of each pixel (SIDE, SIDE): 0 is the ground, then SHAPES."""
        labels = np.zeros((SIDE, SIDE), np.uint8)
        for mask, index in zip(self.masks, self.classes, strict=True):
            labels[mask] = index + 1
        return labels


def draw(split: str, number: int) -> Scene:
    """Scene `number` of a split: shapes of other colours than the ground, whose boxes do not touch."""
    rng = np.random.default_rng((SPLITS[split], number))
    colour = rng.uniform(40, 215, 3)
    across, down = np.meshgrid(np.linspace(-1, 1, SIDE), np.linspace(-1, 1, SIDE))
    slope = rng.normal(0, 18, (2, 3))
    image = colour + across[..., None] * slope[0] + down[..., None] * slope[1]
    classes, masks, taken = list[int](), list[Mask](), np.zeros((SIDE, SIDE), bool)
    for _ in range(rng.integers(2, TRIES + 1)):
        size = float(np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST))))
        index = int(rng.integers(len(SHAPES)))
        middle, angle = rng.uniform(size / 2, SIDE - size / 2, 2), rng.uniform(0, 2 * np.pi)
        left, top = np.maximum(middle - size / 2 - 1, 0).astype(int)
        room = taken[top : top + int(size) + 3, left : left + int(size) + 3]
        if room.any():
            continue
        room[:] = True
        mask = _draw_shape(SHAPES[index], middle, size, angle)
        image[mask] = _choose_other(rng, colour)
        classes.append(index)
        masks.append(mask)
    image += rng.normal(0, rng.uniform(2, 10), image.shape)
    drawn = np.clip(image, 0, 255).round().astype(np.uint8)
    return Scene(drawn, np.array(classes, np.int64), np.stack(masks))


def _draw_shape(name: str, middle: npt.NDArray[np.float64], size: float, angle: float) -> Mask:
    sheet = Image.new("1", (SIDE, SIDE))
    pen, half = ImageDraw.Draw(sheet), size / 2
    if name in ("disc", "ring"):
        pen.ellipse([*(middle - half), *(middle + half - 1)], fill=1)
        if name == "ring":
            pen.ellipse([*(middle - 0.55 * half), *(middle + 0.55 * half - 1)], fill=0)
    else:
        corners = {"square": 4, "triangle": 3}[name]
        turns = angle + 2 * np.pi * np.arange(corners) / corners
        points = middle + half * np.stack([np.cos(turns), np.sin(turns)], 1)
        pen.polygon([tuple(point) for point in points.tolist()], fill=1)
    return np.array(sheet)


def _choose_other(rng: np.random.Generator, ground: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A colour that is told from the ground's."""
    while True:
        colour = rng.uniform(0, 255, 3)
        if np.abs(colour - ground).max() > 70:
            return colour


def write(folder: Path, split: str, count: int) -> None:
    """`images`, `masks` (the class of each pixel) and `annotations.json` in the folder."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    images, annotations = list[dict[str, Any]](), list[dict[str, Any]]()
    for number in range(count):
        scene, name = draw(split, number), f"{split}_{number:05}"
        Image.fromarray(scene.image).save(folder / "images" / f"{name}.png")
        Image.fromarray(scene.label_map).save(folder / "masks" / f"{name}.png")
        images.append({"id": number + 1, "file_name": f"{name}.png", "width": SIDE, "height": SIDE})
        for index, mask, (x0, y0, x1, y1) in zip(scene.classes, scene.masks, scene.boxes.tolist(), strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number + 1,
                    "category_id": int(index) + 1,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": int(mask.sum()),
                    "iscrowd": 0,
                    "segmentation": encode_mask(mask),
                }
            )
    categories = [{"id": index + 1, "name": name} for index, name in enumerate(SHAPES)]
    said = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(said))


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes scenes as `evm-deploy quantize` and `evaluate` read them."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--split", choices=list(SPLITS), default="held-out")
    options = parser.parse_args(arguments)
    write(options.folder, options.split, options.count)


if __name__ == "__main__":
    main()
