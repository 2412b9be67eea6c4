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
from evm_deploy.manifest import Preprocessing
from evm_deploy.preprocessing import preprocess

_ORIENTATION = 0x0112  # EXIF's tag
# (h, w) of an image, its EXIF orientation, (h, w) of the network. The images are made smaller, larger, or keep their
# size; they are wide or tall; some crops have odd margins, whose halves must be rounded.
_CASES = (
    ((61, 83), 1, (32, 40)),
    ((97, 45), 6, (32, 32)),
    ((20, 23), 3, (40, 32)),
    ((36, 36), 1, (32, 32)),
    ((211, 39), 8, (33, 47)),
    ((50, 70), 5, (32, 32)),
)


def write_vectors(folder: Path) -> None:
    """Writes images as `.npy`, uint8 (H, W, 3), with their crops and inputs, and `cases.json`, which lists them."""
    folder.mkdir(parents=True)
    cases: list[dict[str, Any]] = []
    for index, (sides, orientation, size) in enumerate(_CASES):
        image, steps = _make_pattern(sides, index), Preprocessing(size)
        turned = _turn_upright(image, orientation)
        arrays = {
            "image": image,
            "crop": preprocess(turned, dataclasses.replace(steps, baked=True))[0],
            "input": preprocess(turned, steps),
        }
        for name, array in arrays.items():
            _save(folder / f"{name}{index}.npy", array)
        names = {name: f"{name}{index}.npy" for name in arrays}
        cases.append({**names, "orientation": orientation, "preprocessing": dataclasses.asdict(steps)})
    (folder / "cases.json").write_text(dumps(cases), encoding="utf-8", newline="\n")


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
