"""Prepares decoded images as the input of a model, as its manifest says."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from evm_deploy.decoding import DecodingError, UInt8
from evm_deploy.errors import ImageError
from evm_deploy.manifest import Preprocessing
from evm_deploy.resizing import resize_and_crop


def preprocess(image: UInt8, preprocessing: Preprocessing) -> npt.NDArray[np.float32] | UInt8:
    """Prepares an RGB image, uint8 (H, W, 3), as a batch of one: float32 (1, 3, h, w), or uint8 (1, h, w, 3) if baked.

    `Preprocessing` says how. Raises ImageError: not such an array, or the resized image would have more than 64
    megapixels, as that of a long and narrow one that has to cover the resize size.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ImageError(f"the image is {image.dtype} {image.shape}.", "pass uint8 of shape (H, W, 3) in RGB order.")
    said = preprocessing
    try:
        cropped = resize_and_crop(
            image, said.image_size, said.resize_size, said.resize, said.interpolation, said.fill
        )  # (h, w, 3)
    except DecodingError as error:
        raise ImageError(f"an image {error.cause}", error.fix) from error
    if said.channels == "BGR":
        cropped = np.ascontiguousarray(cropped[:, :, ::-1])
    if said.baked:
        return cropped[None]
    unit = cropped.astype(np.float32) / np.float32(255)
    mean, std = (np.array(value, np.float32) for value in (said.mean, said.std))
    return np.ascontiguousarray(((unit - mean) / std).transpose(2, 0, 1)[None])
