"""Images for verification: random ones in every shape that the model accepts, and the user's own."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evm_deploy.images import list_image_files, load_image
from evm_deploy.jsontext import utf8_name
from evm_deploy.manifest import Manifest, Preprocessing
from evm_deploy.preprocessing import preprocess
from evm_deploy.tasks import IOSpec

MAX_REAL = 64  # images of a folder that are used, the first by name


def make_verification_images(manifest: Manifest, real: str | os.PathLike[str] | None) -> dict[str, npt.NDArray[Any]]:
    """Makes batches by name. Raises InputError or ImageError for a path without images, or with damaged ones."""
    spec, (h, w) = manifest.inputs[0], manifest.preprocessing.image_size
    shapes = [(1, h, w)]
    if isinstance(spec.shape[0], str):
        shapes.append((3, h, w))
    if any(isinstance(size, str) for size in spec.shape[1:]):
        shapes.append((shapes[-1][0], h + 27, max(33, w - 45)))  # odd after the stem and after the first downsample
    shapes += [(1, *size) for size in manifest.more_sizes]
    images = {f"random {b}x{h}x{w}": _make_random(spec, manifest.preprocessing, b, h, w) for b, h, w in shapes}
    for path in list_image_files(Path(real))[:MAX_REAL] if real else ():
        images[utf8_name(path.name)] = preprocess(load_image(path), manifest.preprocessing)
    return images


def _make_random(spec: IOSpec, steps: Preprocessing, batch: int, h: int, w: int) -> npt.NDArray[Any]:
    """Random pixels, in the range that those of images have in this model."""
    rng = np.random.default_rng(h * 1000 + w)
    if spec.dtype == "uint8":
        return rng.integers(0, 256, (batch, h, w, 3), dtype=np.uint8)
    mean, std = (np.array(value, np.float32)[:, None, None] for value in (steps.mean, steps.std))
    return (rng.random((batch, 3, h, w), dtype=np.float32) - mean) / std
