#!/usr/bin/env python3
"""The models of this package, with numpy, onnxruntime and Pillow: an image in, labelled results out.

    model = Model("models/NAME")
    for label, probability in model.classify("cat.jpg", top=3):
        print(f"{probability:.3f} {label}")

As a program: `evm_model.py BUNDLE IMAGE...`, or `evm_model.py --golden BUNDLE...`.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import io
import json
import math
import os
import platform
import sys
import tokenize
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # else onnxruntime writes an identifier into the home folder

import numpy as np
import onnxruntime
from evm_decoding import MAX_BYTES, DecodingError, convert_to_rgb, decode_image
from evm_resizing import FILTERS, RESIZED, resize_and_crop
from PIL import Image

MOST_BYTES = 1 << 32  # of a file of a bundle
ROUNDING = 1e-3  # how far a probability may be beyond 0 and 1
TOLERANCES, FP16_MOST = json.loads("""@TOLERANCES_JSON@"""), float("@FP16_MOST@")
LIBRARY = Path(__file__).resolve().parent.parent / "lib" / f"linux-{platform.machine()}" / "libevm_ops.so"
INTERFACE = "@INTERFACE@"


class ModelError(Exception):
    """A bundle that is damaged or of another kind, or an image that cannot be used."""


@dataclass(frozen=True)
class Steps:
    """What the manifest says of the preparation of images. Raises ValueError, TypeError for what is not known here."""

    image_size: list[int]
    crop_pct: float
    interpolation: str
    channels: str
    mean: list[float]
    std: list[float]
    baked: bool
    resize: str = "cover"
    fill: int = 0

    def __post_init__(self) -> None:
        sizes = len(self.image_size) == 2 and all(1 <= side <= 4096 for side in self.image_size)
        colours = len(self.mean) == len(self.std) == 3 and min(self.std) > 0
        named = self.interpolation in FILTERS and self.channels in ("RGB", "BGR") and self.resize in RESIZED
        padded = self.resize == "letterbox" or self.fill == 0
        if not (sizes and colours and named and padded and 0.1 <= self.crop_pct <= 1 and self.fill in range(256)):
            raise ValueError("an unknown preparation of images")

    def apply(self, image: np.ndarray) -> np.ndarray:
        """The model's input for RGB, uint8 (H, W, 3): float32 NCHW, or uint8 NHWC if baked. Raises DecodingError."""
        h, w = self.image_size
        canvas = math.floor(h / self.crop_pct), math.floor(w / self.crop_pct)
        pixels = resize_and_crop(image, (h, w), canvas, self.resize, self.interpolation, self.fill)
        if self.channels == "BGR":
            pixels = np.ascontiguousarray(pixels[:, :, ::-1])
        if self.baked:
            return pixels[None]
        mean, std = (np.array(value, np.float32) for value in (self.mean, self.std))
        unit = pixels.astype(np.float32) / np.float32(255)
        return np.ascontiguousarray(((unit - mean) / std).transpose(2, 0, 1)[None])


class Model:
    """A model in its bundle, every file of which is checked against its sha256 when it is read.

    portable leaves our operators out: the same results, slower. threads 0: as many as onnxruntime chooses.
    """

    def __init__(self, folder: str | os.PathLike[str], portable: bool = False, threads: int = 0) -> None:
        self.folder = Path(folder)
        try:
            self.manifest: dict[str, Any] = json.loads(read_file(self.folder / "manifest.json", 1 << 20))
            if self.manifest["schema_version"] != 1:
                raise ModelError(f"{folder} is a bundle of another version")
            self._steps = Steps(**self.manifest["preprocessing"])
            self._input = str(self.manifest["inputs"][0]["name"])
            self._outputs = {str(output["name"]): output["meaning"] for output in self.manifest["outputs"]}
            ours = self.manifest["scan_form"] != "inlined"
            model = self.read(self.manifest["model_file"])
            names = self.manifest["labels"]
            self.labels = self.read(names).decode().splitlines() if names is not None else None
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise ModelError(f"{folder} is no bundle ({error!r})") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        named = os.environ.get("EVM_OPS_LIBRARY")
        operators = named or str(LIBRARY)
        loaded = ours and not portable and (named is not None or LIBRARY.is_file())
        if loaded:
            check_interface(operators)
        self.runtime = "onnxruntime + evm_ops" if loaded else "onnxruntime"
        try:
            if loaded:
                options.register_custom_ops_library(operators)
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has no common one
            raise ModelError(f"onnxruntime refuses the model of {folder} ({error})") from None

    def read(self, name: str) -> bytes:
        """The bytes of a file that the manifest lists. Raises ModelError: it does not, or they are others."""
        listed = self.manifest["files"].get(name)
        if listed is None or name.startswith("/") or ".." in name.split("/"):
            raise ModelError(f"{self.folder} does not list {name}")
        data = read_file(self.folder / name, MOST_BYTES)
        if hashlib.sha256(data).hexdigest() != listed:
            raise ModelError(f"{name} in {self.folder} was changed: its sha256 differs")
        return data

    def preprocess(self, image: str | os.PathLike[str] | Image.Image) -> np.ndarray:
        """The model's input for an image (a path, or one of Pillow's): float32 NCHW, or uint8 NHWC if baked."""
        try:
            if isinstance(image, Image.Image):
                return self._steps.apply(convert_to_rgb(image))
            return self._steps.apply(decode_image(read_file(Path(image), MAX_BYTES)))
        except DecodingError as error:
            what = "the image" if isinstance(image, Image.Image) else image
            raise ModelError(f"{what} {error}") from None

    def run(self, array: np.ndarray) -> list[np.ndarray]:
        """The outputs, in the order of the manifest, for such an input."""
        found: list[np.ndarray] = self._session.run(list(self._outputs), {self._input: array})
        return found

    def classify(self, image: str | os.PathLike[str] | Image.Image, top: int = 5) -> list[tuple[str, float]]:
        """The best classes, as (label, probability), best first."""
        if self.manifest.get("task") != "classification":
            raise ModelError(f"{self.folder} is a backbone: it gives feature maps, not classes")
        scores = self.run(self.preprocess(image))[0][0].astype(np.float64)
        labels = self.labels or [f"class {index}" for index in range(len(scores))]
        if len(scores) < 2 or len(labels) != len(scores) or not np.isfinite(scores).all():
            raise ModelError(f"{self.folder} gives no scores, or not one for each label")
        if next(iter(self._outputs.values())) == "logits":
            scores = np.exp(scores - scores.max())
            scores /= scores.sum()
        elif not -ROUNDING < scores.min() <= scores.max() < 1 + ROUNDING:
            raise ModelError(f"{self.folder} gives no probabilities")
        return [(labels[index], float(scores[index])) for index in np.argsort(-scores, kind="stable")[:top]]

    def golden_error(self) -> tuple[float, float]:
        """(relative error, the most that it may be) of the pair that PyTorch computed for this model."""
        count = len(self._outputs)
        names = [f"output{i if count > 1 else ''}" for i in range(count)]
        found, worst = self.run(self._array("input")), 0.0
        for index, name in enumerate(names):
            array, expected = found[index], self._array(name)
            if array.shape != expected.shape:
                raise ModelError(f"the golden output of {self.folder} is not an output of its model")
            difference = np.abs(array.astype(np.float64) - expected).max()
            worst = max(worst, float(difference / max(1.0, np.abs(expected).max())))
            if not np.isfinite(difference):
                worst = math.inf
        return worst, self._find_tolerance()

    def _find_tolerance(self) -> float:
        """That of the precision; of deep networks in float16 the manifest says a larger one."""
        precision, build = self.manifest.get("precision"), self.manifest.get("build")
        said = build.get("tolerance") if isinstance(build, dict) else None
        if precision == "fp16" and isinstance(said, float) and TOLERANCES["fp16"] <= said <= FP16_MOST:
            return said
        return float(TOLERANCES.get(precision, 0.0))

    def _array(self, name: str) -> np.ndarray:
        try:
            array: np.ndarray = np.load(io.BytesIO(self.read(f"sample/{name}.npy")), allow_pickle=False)
        except (ValueError, OSError, SyntaxError, tokenize.TokenError) as error:  # the last two: of the header
            raise ModelError(f"sample/{name}.npy in {self.folder} is not a plain array ({error})") from None
        return array


def read_file(path: Path, limit: int) -> bytes:
    """The bytes of a regular file that has at most `limit`. Raises ModelError."""
    try:
        if path.is_file() and path.stat().st_size <= limit:
            return path.read_bytes()
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read ({error})") from None
    raise ModelError(f"{path} is not a file of at most {limit} bytes")


def check_interface(path: str) -> None:
    """Raises ModelError for another operator library than that of this package."""
    try:
        interface = ctypes.CDLL(path).evm_interface
        interface.restype = ctypes.c_char_p
        ours = interface() == INTERFACE.encode()
    except OSError as error:
        raise ModelError(f"{path}, the operator library, does not load ({error})") from None
    except AttributeError:
        ours = False
    if not ours:
        raise ModelError(f"{path} is not the operator library of this package ({INTERFACE}): take the one in its lib/")


def main() -> int:
    """The program. Returns the exit code."""
    parser = argparse.ArgumentParser(description="The classes of images, or the golden pairs of bundles.")
    parser.add_argument("names", nargs="+", metavar="BUNDLE IMAGE...")
    parser.add_argument("--golden", action="store_true", help="run the golden pair of each bundle")
    parser.add_argument("--top", type=int, default=5)
    parser.add_argument("--portable", action="store_true", help="without our operators: the same results, slower")
    said = parser.parse_args()
    code = 0
    try:
        for name in said.names if said.golden else said.names[:1]:
            model = Model(name, portable=said.portable)
            if said.golden:
                error, most = model.golden_error()
                code = code if error <= most else 1
                verdict = "passed" if error <= most else "FAILED"
                print(f"{name}: {model.runtime}: relative error {error:.2g}, at most {most:.2g}: {verdict}")
                continue
            for image in said.names[1:]:
                print(image)
                for label, share in model.classify(image, said.top):
                    print(f"    {share:.4f}  {label}")
    except (ModelError, OSError, ValueError) as problem:
        print(f"evm_model: {problem}", file=sys.stderr)
        return 2
    return code


if __name__ == "__main__":
    sys.exit(main())
