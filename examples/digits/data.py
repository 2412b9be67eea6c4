"""Handwritten digits as a user would photograph them: dark ink on a white sheet, with a margin the crop may take."""

import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.datasets import load_digits

from evm_deploy.bundle import Preprocessing
from evm_deploy.preprocessing import preprocess

CLASSES = 10
SHEET, INK = 80, 64  # pixels a side; the deployed crop keeps 0.875 of a sheet, so all of the ink
PREPROCESSING = Preprocessing((64, 64))  # 64 tokens in each of the four scans of stage 1

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


def held_out() -> tuple[Images, Labels]:
    """Every fourth digit of each class: images (n, SHEET, SHEET, 3) in RGB, and labels (n,)."""
    return _digits(held_out=True)


def training() -> tuple[Images, Labels]:
    """The other digits, in the same form."""
    return _digits(held_out=False)


def model_inputs(images: Images, preprocessing: Preprocessing = PREPROCESSING) -> npt.NDArray[np.float32] | Images:
    """(n, h, w, 3) -> (n, 3, 64, 64), each image exactly as a deployed bundle prepares it."""
    return np.concatenate([preprocess(image, preprocessing) for image in images])


def _digits(held_out: bool) -> tuple[Images, Labels]:
    digits = load_digits()
    labels = digits.target.astype(np.int64)
    chosen = np.zeros(len(labels), bool)
    for label in range(CLASSES):
        chosen[np.flatnonzero(labels == label)[::4]] = True
    chosen = chosen if held_out else ~chosen
    return np.stack([_sheet(ink) for ink in digits.images[chosen]]), labels[chosen]


def _sheet(ink: npt.NDArray[np.float64]) -> Images:
    """(8, 8) with ink from 0 to 16 -> (SHEET, SHEET, 3)."""
    grey = Image.fromarray(np.uint8(255 - ink * 255 / 16)).resize((INK, INK), Image.Resampling.BICUBIC)
    sheet = Image.new("RGB", (SHEET, SHEET), "white")
    sheet.paste(grey.convert("RGB"), ((SHEET - INK) // 2, (SHEET - INK) // 2))
    return np.array(sheet)
