"""Test data for the packages' tests in other languages: images, and the exporter's preparation of each."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from evm_deploy.jsontext import dumps
from evm_deploy.keep_ratio import resize_bilinear
from evm_deploy.manifest import Preprocessing
from evm_deploy.preprocessing import place_image, preprocess

_ORIENTATION = 0x0112  # EXIF's tag
# (h, w) of images, wide and tall, and their EXIF orientation. They are made smaller, larger, or keep their size.
_IMAGES = (((61, 83), 1), ((97, 45), 6), ((20, 23), 3), ((36, 36), 1), ((211, 39), 8), ((50, 70), 5))
# Every resize with every interpolation. Some crops have odd margins, whose halves must be rounded.
_CASES = (
    (0, Preprocessing((32, 40))),
    (1, Preprocessing((32, 32))),
    (2, Preprocessing((40, 32))),
    (3, Preprocessing((32, 32))),
    (4, Preprocessing((33, 47))),
    (5, Preprocessing((32, 32), channels="BGR", mean=(0.4, 0.5, 0.6), std=(0.1, 0.2, 0.3))),
    (0, Preprocessing((32, 40), crop_pct=1.0, interpolation="nearest")),
    (2, Preprocessing((33, 32), crop_pct=0.9, interpolation="bilinear")),
    (4, Preprocessing((32, 32), crop_pct=0.95, interpolation="lanczos", channels="BGR")),
    (1, Preprocessing((32, 33), resize="squash", interpolation="nearest")),
    (3, Preprocessing((32, 47), crop_pct=1.0, resize="squash", interpolation="bilinear")),
    (4, Preprocessing((32, 32), crop_pct=0.9, resize="squash")),
    (5, Preprocessing((40, 33), resize="squash", interpolation="lanczos")),
    (4, Preprocessing((32, 32), crop_pct=1.0, resize="letterbox", interpolation="nearest", fill=114)),
    (2, Preprocessing((33, 47), crop_pct=0.5, resize="letterbox", interpolation="bilinear", fill=255)),
    (0, Preprocessing((40, 33), resize="letterbox", channels="BGR")),
    (1, Preprocessing((32, 64), crop_pct=0.9, resize="letterbox", interpolation="lanczos", fill=1)),
    (0, Preprocessing((64, 96), crop_pct=1.0, interpolation="opencv_bilinear", resize="fit")),
    (4, Preprocessing((40, 48), crop_pct=1.0, interpolation="opencv_bilinear", resize="fit", channels="BGR")),
    (2, Preprocessing((32, 32), crop_pct=1.0, interpolation="opencv_bilinear", resize="fit", scale=(63, 40))),
    (1, Preprocessing((32, 32), crop_pct=1.0, interpolation="opencv_bilinear", resize="fit", scale=(64, 33))),
)


def write_vectors(folder: Path) -> None:
    """Writes images as `.npy`, uint8 (H, W, 3), with their crops and inputs, and `cases.json`, which lists them."""
    folder.mkdir(parents=True)
    cases: list[dict[str, Any]] = []
    images = [_make_pattern(sides, index) for index, (sides, _) in enumerate(_IMAGES)]
    for index, image in enumerate(images):
        _save(folder / f"image{index}.npy", image)
    for index, (place, steps) in enumerate(_CASES):
        orientation = _IMAGES[place][1]
        turned = _turn_upright(images[place], orientation)
        crop = preprocess(_fit(turned, steps), dataclasses.replace(steps, baked=True))[0]
        _save(folder / f"crop{index}.npy", crop)
        _save(folder / f"input{index}.npy", preprocess(turned, steps))
        names = {"image": f"image{place}.npy", "crop": f"crop{index}.npy", "input": f"input{index}.npy"}
        cases.append({**names, "orientation": orientation, "preprocessing": dataclasses.asdict(steps)})
    (folder / "cases.json").write_text(dumps(cases), encoding="utf-8", newline="\n")


def _fit(image: npt.NDArray[np.uint8], steps: Preprocessing) -> npt.NDArray[np.uint8]:
    """The image of a detector resized, which one that is baked does itself."""
    if steps.resize != "fit":
        return image
    return resize_bilinear(image, place_image(image.shape[0], image.shape[1], steps).content)


def _make_pattern(sides: tuple[int, int], seed: int) -> npt.NDArray[np.uint8]:
    """Makes an image of edges, ramps and noise that is the same on every machine."""
    y, x, c = np.meshgrid(*(np.arange(side, dtype=np.int64) for side in (*sides, 3)), indexing="ij")
    noise = ((y * 7919 + x * 104729 + c * 1299709 + seed) * 2654435761 >> 7) % 256
    flat = (x // 5 + y // 3 + c) % 2 * 255
    ramp = (3 * x + 2 * y + 40 * c) % 256
    picture: npt.NDArray[np.uint8] = np.choose((x // 16 + y // 16) % 3, [noise, flat, ramp]).astype(np.uint8)
    return picture


def _turn_upright(image: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    picture = Image.fromarray(image)
    picture.getexif()[_ORIENTATION] = orientation
    return np.array(ImageOps.exif_transpose(picture))


def _save(path: Path, array: npt.NDArray[Any]) -> None:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    path.write_bytes(buffer.getvalue())
