"""Prepares decoded images as the input of a model, as its manifest says."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from evm_deploy.decoding import DecodingError, UInt8
from evm_deploy.errors import ImageError
from evm_deploy.keep_ratio import find_fitted_size, resize_bilinear
from evm_deploy.manifest import Preprocessing
from evm_deploy.resizing import resize_and_crop
from evm_deploy.showing.findings import Placement


def preprocess(image: UInt8, preprocessing: Preprocessing) -> npt.NDArray[np.float32] | UInt8:
    """Prepares an RGB image, uint8 (H, W, 3), as a batch of one: float32 (1, 3, h, w), or uint8 (1, h, w, 3) if baked.

    `Preprocessing` says how. Raises ImageError: not such an array, or the resized image would have more than 64
    megapixels, as that of a long and narrow one that has to cover the resize size.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ImageError(f"the image is {image.dtype} {image.shape}.", "pass uint8 of shape (H, W, 3) in RGB order.")
    said = preprocessing
    if said.resize == "fit":
        return _fit(image, said)
    try:
        cropped = resize_and_crop(
            image, said.image_size, said.resize_size, said.resize, said.interpolation, said.fill
        )  # (h, w, 3)
    except DecodingError as error:
        raise ImageError(f"an image {error.cause}", error.fix) from error
    cropped = _order_channels(cropped, said)
    if said.baked:
        return cropped[None]
    return normalise(cropped, said)


def place_image(height: int, width: int, said: Preprocessing) -> Placement:
    """Where an image of this size lies in the model's input, where `resize` is "fit"."""
    size = height, width
    return Placement(size, size if said.baked else find_fitted_size(height, width, said.image_size, said.scale))


def _fit(image: UInt8, said: Preprocessing) -> npt.NDArray[np.float32] | UInt8:
    ordered = _order_channels(image, said)
    return np.ascontiguousarray(ordered[None]) if said.baked else fit(ordered, said)


def fit(image: UInt8, said: Preprocessing) -> npt.NDArray[np.float32]:
    """Pixels (H, W, 3), the channels in the model's order, as `said` would prepare them if it were not baked."""
    h, w = place_image(image.shape[0], image.shape[1], dataclasses.replace(said, baked=False)).content
    fitted = normalise(resize_bilinear(image, (h, w)), said)
    rows, columns = said.image_size if said.scale is None else (h, w)
    return np.pad(fitted, ((0, 0), (0, 0), (0, rows - h), (0, columns - w)))


def _order_channels(image: UInt8, said: Preprocessing) -> UInt8:
    return np.ascontiguousarray(image[:, :, ::-1]) if said.channels == "BGR" else image


def normalise(cropped: UInt8, said: Preprocessing) -> npt.NDArray[np.float32]:
    """Pixels uint8 (h, w, 3), the channels in the model's order, as its input (1, 3, h, w)."""
    unit = cropped.astype(np.float32) / np.float32(255)
    mean, std = (np.array(value, np.float32) for value in (said.mean, said.std))
    return np.ascontiguousarray(((unit - mean) / std).transpose(2, 0, 1)[None])
