#!/usr/bin/env python3
"""EfficientVMamba models of this package, with numpy, onnxruntime and Pillow: an image in, labelled results out.

    model = Model("models/NAME")
    for label, probability in model.classify("cat.jpg", top=3):
        print(f"{probability:.3f} {label}")

As a program: `evm_model.py BUNDLE IMAGE...`, or `evm_model.py --golden BUNDLE...`.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import math
import os
import platform
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # else onnxruntime writes an identifier into the home folder

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

MOST_PIXELS = 64000000
TOLERANCES = json.loads("""@TOLERANCES_JSON@""")
LIBRARY = Path(__file__).resolve().parent.parent / "lib" / f"linux-{platform.machine()}" / "libevm_ops.so"


class ModelError(Exception):
    """A bundle that is damaged or of another kind, or an image that cannot be used."""


class Model:
    """A model in its bundle, every file of which is checked against its sha256 when it is read.

    portable leaves our operators out: the same results, slower. threads 0: as many as onnxruntime chooses.
    """

    def __init__(self, folder: str | os.PathLike[str], portable: bool = False, threads: int = 0) -> None:
        self.folder = Path(folder)
        try:
            self.manifest: dict[str, Any] = json.loads((self.folder / "manifest.json").read_bytes())
            if self.manifest["schema_version"] != 1:
                raise ModelError(f"{folder} is a bundle of another version")
            self._steps = self.manifest["preprocessing"]
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            raise ModelError(f"{folder} is no bundle ({error!r})") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        operators = os.environ.get("EVM_OPS_LIBRARY", str(LIBRARY))
        self.runtime = "onnxruntime"
        if not portable and self.manifest["scan_form"] != "inlined" and Path(operators).is_file():
            options.register_custom_ops_library(operators)
            self.runtime = "onnxruntime + evm_ops"
        model = self.read(self.manifest["model_file"])
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        names = self.manifest["labels"]
        self.labels = self.read(names).decode().splitlines() if names else None

    def read(self, name: str) -> bytes:
        """The bytes of a file that the manifest lists. Raises ModelError: it does not, or they are others."""
        listed = self.manifest["files"].get(name)
        if listed is None or name.startswith("/") or ".." in name.split("/"):
            raise ModelError(f"{self.folder} does not list {name}")
        try:
            data = (self.folder / name).read_bytes()
        except OSError as error:
            raise ModelError(f"{name} cannot be read ({error.strerror})") from None
        if hashlib.sha256(data).hexdigest() != listed:
            raise ModelError(f"{name} in {self.folder} was changed: its sha256 differs")
        return data

    def preprocess(self, image: str | os.PathLike[str] | Image.Image) -> np.ndarray:
        """The model's input for an image (a path, or one of Pillow's): float32 NCHW, or uint8 NHWC if baked."""
        if not isinstance(image, Image.Image):
            with Image.open(image) as opened:
                if opened.width * opened.height > MOST_PIXELS:
                    raise ModelError(f"{image} has more than 64 megapixels")
                image = ImageOps.exif_transpose(opened)
        image = image.convert("RGB")
        h, w = self._steps["image_size"]
        cover_h, cover_w = (math.floor(side / self._steps["crop_pct"]) for side in (h, w))
        if cover_w * image.height >= cover_h * image.width:
            size = (cover_w, cover_w * image.height // image.width)
        else:
            size = (cover_h * image.width // image.height, cover_h)
        if size[0] * size[1] > MOST_PIXELS:
            raise ModelError("the image is too narrow: crop it first")
        left, top = round((size[0] - w) / 2), round((size[1] - h) / 2)
        resized = image.resize(size, Image.Resampling.BICUBIC).crop((left, top, left + w, top + h))
        pixels = np.asarray(resized)
        if self._steps["baked"]:
            return pixels[None]
        mean, std = (np.array(self._steps[name], np.float32) for name in ("mean", "std"))
        unit = pixels.astype(np.float32) / np.float32(255)
        return np.ascontiguousarray(((unit - mean) / std).transpose(2, 0, 1)[None])

    def run(self, array: np.ndarray) -> list[np.ndarray]:
        """The outputs, in the order of the manifest, for such an input."""
        outputs = [output["name"] for output in self.manifest["outputs"]]
        found: list[np.ndarray] = self._session.run(outputs, {self.manifest["inputs"][0]["name"]: array})
        return found

    def classify(self, image: str | os.PathLike[str] | Image.Image, top: int = 5) -> list[tuple[str, float]]:
        """The best classes, as (label, probability), best first."""
        if self.manifest["task"] != "classification":
            raise ModelError(f"{self.folder} is a backbone: it gives feature maps, not classes")
        scores = self.run(self.preprocess(image))[0][0].astype(np.float64)
        if self.manifest["outputs"][0]["meaning"] == "logits":
            scores = np.exp(scores - scores.max())
            scores /= scores.sum()
        labels = self.labels or [f"class {index}" for index in range(len(scores))]
        if len(labels) != len(scores) or not np.isfinite(scores).all():
            raise ModelError(f"{self.folder} gives no scores, or not one for each label")
        return [(labels[index], float(scores[index])) for index in np.argsort(-scores, kind="stable")[:top]]

    def golden_error(self) -> tuple[float, float]:
        """(relative error, the most that it may be) of the pair that PyTorch computed for this model."""
        outputs = self.manifest["outputs"]
        names = [f"output{i if len(outputs) > 1 else ''}" for i in range(len(outputs))]
        found, worst = self.run(self._array("input")), 0.0
        for index, name in enumerate(names):
            array, expected = found[index], self._array(name)
            if array.shape != expected.shape:
                raise ModelError(f"the golden output of {self.folder} is not an output of its model")
            difference = np.abs(array.astype(np.float64) - expected).max()
            worst = max(worst, float(difference / max(1.0, np.abs(expected).max())))
            if not np.isfinite(difference):
                worst = math.inf
        return worst, TOLERANCES[self.manifest["precision"]]

    def _array(self, name: str) -> np.ndarray:
        array: np.ndarray = np.load(io.BytesIO(self.read(f"sample/{name}.npy")), allow_pickle=False)
        return array


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
