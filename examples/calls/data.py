"""Spectrograms of faint two-note calls in a noisy place; each image is drawn from its split and its number alone.

Time runs to the right, frequency upwards, and brightness is loudness, linear as a microphone gives it. A call is two
notes, one after the other; its class is which two, in which order. Knocks and hums that drown them out lie about.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from evm_deploy.bundle import Preprocessing
from evm_deploy.preprocessing import preprocess

NOTES = ("rise", "fall", "arch", "dip")
LABELS = tuple(f"{first}-{second}" for first in NOTES for second in NOTES)
CLASSES = len(LABELS)
PREPROCESSING = Preprocessing((96, 96))  # 144 tokens in each of the four scans of stage 1
SHEET, MARGIN, CROP = 109, 6, 96  # pixels: what the preprocessing resizes to, so it changes none, and what it keeps
SPLITS = {"training": 0, "calibration": 1, "held-out": 2}  # a part of every seed: no image is in two of them
HELD_OUT = 4000

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Sheet = npt.NDArray[np.float64]


def draw(split: str, count: int, start: int = 0, boost: float = 1.0) -> tuple[Images, Labels]:
    """Images `start` to `start + count` of a split: (count, SHEET, SHEET, 3) in RGB, and their labels (count,).

    The classes take turns, so every run of CLASSES images has each once. `boost` makes the notes louder.
    """
    labels = np.arange(start, start + count, dtype=np.int64) % CLASSES
    sheets = [_spectrogram((SPLITS[split], start + i), int(label), boost) for i, label in enumerate(labels)]
    return np.repeat(np.stack(sheets)[..., None], 3, axis=3), labels


def model_inputs(images: Images, preprocessing: Preprocessing = PREPROCESSING) -> npt.NDArray[np.float32] | Images:
    """(n, h, w, 3) -> (n, 3, 96, 96), each image exactly as a deployed bundle prepares it."""
    return np.concatenate([preprocess(image, preprocessing) for image in images])


def _spectrogram(seed: tuple[int, int], label: int, boost: float) -> Images:
    """One image, grey: (SHEET, SHEET)."""
    rng = np.random.default_rng(seed)
    sheet = rng.gamma(4.0, rng.uniform(1.2, 1.8), (SHEET, SHEET))  # the place's own noise, of mean 5 to 7
    loudness = boost * rng.uniform(4.5, 10)
    lengths = rng.integers(22, 34, 2)
    spare = CROP - int(lengths.sum())
    before = int(rng.integers(0, spare - 8))
    gap = int(rng.integers(4, spare - before))
    starts = before, before + int(lengths[0]) + gap
    for note, start, length in zip(divmod(label, len(NOTES)), starts, lengths, strict=True):
        _add_note(sheet, rng, NOTES[note], MARGIN + start, int(length), loudness)
    for strip in (sheet, sheet.T):  # hums (one frequency, for a while) and knocks (one moment, many frequencies)
        for _ in range(rng.poisson(1.2)):
            _add_line(strip, rng)
    return np.clip(sheet, 0, 255).round().astype(np.uint8)


def _add_note(sheet: Sheet, rng: np.random.Generator, note: str, start: int, length: int, loudness: float) -> None:
    """A ridge about three pixels wide, whose frequency moves as `note` says; it swells and fades."""
    time = (np.arange(length) + 0.5) / length
    arch = np.sin(np.pi * time)
    course = {"rise": time, "fall": 1 - time, "arch": arch, "dip": 1 - arch}[note]
    height = rng.uniform(12, 24)
    lowest = rng.uniform(4, CROP - 4 - height)
    rows = MARGIN + CROP - 1 - (lowest + height * course)  # row 0 is the highest frequency
    sheet[:, start : start + length] += loudness * arch**0.4 * _ridge(rows, 1.3)


def _add_line(strip: Sheet, rng: np.random.Generator) -> None:
    """A straight line along the rows of `strip`; its loudness is log-normal, so a few are beyond all measure."""
    low, high = np.sort(rng.uniform(0, SHEET, 2)).astype(int)
    strip[:, low:high] += rng.lognormal(4.5, 1.0) * _ridge(rng.uniform(0, SHEET, 1), rng.uniform(0.6, 1.2))


def _ridge(rows: Sheet, width: float) -> Sheet:
    """(n,) places on the rows -> (SHEET, n), a bell of this width around each."""
    bell: Sheet = np.exp(-0.5 * ((np.arange(SHEET)[:, None] - rows) / width) ** 2)
    return bell


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes PNG files in a folder for each class, as `evm-deploy quantize` and `evaluate` read them."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=512)
    parser.add_argument("--split", choices=list(SPLITS), default="calibration")
    options = parser.parse_args(arguments)
    for i in range(options.count):  # one by one: any number of them fits in memory
        images, labels = draw(options.split, 1, start=i)
        folder = options.folder / LABELS[labels[0]]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[0]).save(folder / f"{options.split}_{i:05}.png")


if __name__ == "__main__":
    main()
