#!/usr/bin/env python3
"""The models of this package, with numpy, onnxruntime and Pillow: an image in, labelled results out.

    model = Model("models/NAME")
    for label, probability in model.classify("cat.jpg", top=3):
        print(f"{probability:.3f} {label}")

A detector or segmenter has `find` in the place of `classify`: what it found, in the pixels of the image.

As a program: `evm_model.py BUNDLE IMAGE...`, or `evm_model.py --golden BUNDLE...`.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import hashlib
import io
import json
import math
import os
import platform
import sys
import tokenize
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # else onnxruntime writes an identifier into the home folder

import numpy as np
import onnxruntime
from evm_answers import NotAnAnswer
from evm_decoding import MAX_BYTES, DecodingError, convert_to_rgb, decode_image
from evm_findings import Findings, Placement, draw_pictures
from evm_keep_ratio import find_fitted_size, resize_bilinear
from evm_locating import locate_classes, locate_things
from evm_matching import choose_limits, match_boxes
from evm_resizing import FILTERS, RESIZED, resize_and_crop
from PIL import Image

MOST_BYTES = 1 << 32  # of a file of a bundle
ROUNDING = 1e-3  # how far a probability may be beyond 0 and 1
TOLERANCES, FP16_MOST = json.loads("""@TOLERANCES_JSON@"""), float("@FP16_MOST@")
LIBRARY = Path(__file__).resolve().parent.parent / "lib" / f"linux-{platform.machine()}" / "libevm_ops.so"
INTERFACE = "@INTERFACE@"
MOST_DIFFERING = float("@MOST_DIFFERING@")  # pixels of another class than in the golden pair, for 1e-4 of the tolerance


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
    scale: list[int] | None = None

    def __post_init__(self) -> None:
        sizes = len(self.image_size) == 2 and all(1 <= side <= 4096 for side in self.image_size)
        colours = len(self.mean) == len(self.std) == 3 and min(self.std) > 0
        fitted = (self.resize, self.interpolation, self.crop_pct) == ("fit", "opencv_bilinear", 1)
        named = self.channels in ("RGB", "BGR") and (
            fitted or (self.interpolation in FILTERS and self.resize in RESIZED and self.scale is None)
        )
        sizes = sizes and (self.scale is None or 1 <= min(self.scale) <= max(self.scale) <= 4096)
        padded = self.resize == "letterbox" or self.fill == 0
        if not (sizes and colours and named and padded and 0.1 <= self.crop_pct <= 1 and self.fill in range(256)):
            raise ValueError("an unknown preparation of images")

    def place(self, height: int, width: int) -> Placement:
        """Where an image of this size lies in the input of a detector or segmenter."""
        size = height, width
        return Placement(size, size if self.baked else find_fitted_size(height, width, self.image_size, self.scale))

    def apply(self, image: np.ndarray) -> np.ndarray:
        """The model's input for RGB, uint8 (H, W, 3): float32 NCHW, or uint8 NHWC if baked. Raises DecodingError."""
        pixels = self._fit(image) if self.resize == "fit" else self._cut(image)
        if self.channels == "BGR":
            pixels = np.ascontiguousarray(pixels[:, :, ::-1])
        if self.baked:
            return pixels[None]
        mean, std = (np.array(value, np.float32) for value in (self.mean, self.std))
        unit = pixels.astype(np.float32) / np.float32(255)
        prepared = ((unit - mean) / std).transpose(2, 0, 1)[None]
        rows, columns = self.image_size if self.scale is None else prepared.shape[2:]
        room = rows - prepared.shape[2], columns - prepared.shape[3]  # there is some only after `_fit`
        return np.ascontiguousarray(np.pad(prepared, ((0, 0), (0, 0), (0, room[0]), (0, room[1]))))

    def _fit(self, image: np.ndarray) -> np.ndarray:
        content = self.place(*image.shape[:2]).content
        return image if content == image.shape[:2] else resize_bilinear(image, content)

    def _cut(self, image: np.ndarray) -> np.ndarray:
        h, w = self.image_size
        canvas = math.floor(h / self.crop_pct), math.floor(w / self.crop_pct)
        return resize_and_crop(image, (h, w), canvas, self.resize, self.interpolation, self.fill)


@dataclass(frozen=True)
class Task:
    """What depends on the meaning of the outputs."""

    # The error of outputs against those expected, and the most that it may be at a tolerance.
    compare: Callable[[Sequence[np.ndarray], Sequence[np.ndarray], float], tuple[float, float]]
    title: str
    meanings: tuple[str, ...] | None = None  # of its outputs, in order; None: any
    # What was found in an image, by the outputs, where the image lies in the input, and the names of the classes.
    locate: Callable[[Sequence[np.ndarray], Placement, Sequence[str] | None], Findings] | None = None
    any_number: int = 0  # how many of the first lengths of its outputs depend on the image


def compare_numbers(
    found: Sequence[np.ndarray], expected: Sequence[np.ndarray], tolerance: float
) -> tuple[float, float]:
    """By the largest difference, as a share of the largest value, at least 1."""
    worst = 0.0
    for one, other in zip(found, expected, strict=True):
        difference = np.abs(one.astype(np.float64) - other).max()
        worst = max(worst, float(difference / max(1.0, np.abs(other).max()))) if np.isfinite(difference) else math.inf
    return worst, tolerance


def compare_things(
    found: Sequence[np.ndarray], expected: Sequence[np.ndarray], tolerance: float
) -> tuple[float, float]:
    """By the share of the scores that detections have which one of the two alone found."""
    limits = choose_limits(tolerance)
    matches = match_boxes((found[0], found[2]), (expected[0], expected[2]), limits.overlap)
    total = float(found[1].sum() + expected[1].sum())
    matched = float(found[1][matches.found].sum() + expected[1][matches.expected].sum())
    return (1 - matched / total if total else 0.0), limits.missed


def compare_classes(
    found: Sequence[np.ndarray], expected: Sequence[np.ndarray], tolerance: float
) -> tuple[float, float]:
    """By the share of the pixels that have another class."""
    return float((found[0] != expected[0]).mean()), MOST_DIFFERING * tolerance / 1e-4


THINGS = ("boxes", "scores", "labels")
TASKS = {
    "classification": Task(compare_numbers, "a classifier"),
    "backbone": Task(compare_numbers, "a backbone: it gives feature maps, not classes"),
    "detection": Task(compare_things, "a detector", THINGS, locate_things, 1),
    "instance_segmentation": Task(compare_things, "an instance segmenter", (*THINGS, "masks"), locate_things, 1),
    "semantic_segmentation": Task(compare_classes, "a semantic segmenter", ("classes of pixels",), locate_classes),
}


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
            self.task = TASKS[self.manifest["task"]]
            if self.task.meanings not in (None, tuple(self._outputs.values())):
                raise ValueError(f"its outputs are not those of {self.task.title}")
            if (self.task.locate is not None) != (self._steps.resize == "fit"):
                raise ValueError(f"images are not prepared as for {self.task.title}")
            ours = self.manifest["scan_form"] != "inlined"
            model = self.read(self.manifest["model_file"])
            follows = self.manifest.get("last_steps")  # a graph after the model
            self._given = [str(output["name"]) for output in follows["given"]] if follows is not None else []
            last_steps = self.read(follows["file"]) if follows is not None else None
            names = self.manifest["labels"]
            self.labels = self.read(names).decode().splitlines() if names is not None else None
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise ModelError(f"{folder} is no bundle ({error!r})") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors: what a graph leaves unused is no concern here
        named = os.environ.get("EVM_OPS_LIBRARY")
        operators = named or str(LIBRARY)
        loaded = ours and not portable and (named is not None or LIBRARY.is_file())
        if loaded:
            check_interface(operators)
        self.runtime = "onnxruntime + evm_ops" if loaded else "onnxruntime"
        try:
            if loaded:
                options.register_custom_ops_library(operators)
            open_session = functools.partial(onnxruntime.InferenceSession, providers=["CPUExecutionProvider"])
            self._session = open_session(model, options)
            self._last_steps = open_session(last_steps, options) if last_steps is not None else None
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
        return self._prepare(image, self._steps.apply)

    @staticmethod
    def _prepare(image: str | os.PathLike[str] | Image.Image, steps: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        try:
            if isinstance(image, Image.Image):
                return steps(convert_to_rgb(image))
            return steps(decode_image(read_file(Path(image), MAX_BYTES)))
        except DecodingError as error:
            what = "the image" if isinstance(image, Image.Image) else image
            raise ModelError(f"{what} {error}") from None

    def run(self, array: np.ndarray) -> list[np.ndarray]:
        """The outputs, in the order of the manifest, for such an input."""
        inputs, session = {self._input: array}, self._session
        if self._last_steps is not None:
            inputs |= dict(zip(self._given, session.run(self._given, inputs), strict=True))
            session = self._last_steps
        found: list[np.ndarray] = session.run(list(self._outputs), inputs)
        return found

    def classify(self, image: str | os.PathLike[str] | Image.Image, top: int = 5) -> list[tuple[str, float]]:
        """The best classes, as (label, probability), best first."""
        if self.task is not TASKS["classification"]:
            raise ModelError(f"{self.folder} is {self.task.title}")
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

    def decode(self, image: str | os.PathLike[str] | Image.Image) -> np.ndarray:
        """An image (a path, or one of Pillow's) as `find` and `draw_pictures` take it: RGB, uint8 (H, W, 3)."""
        return self._prepare(image, lambda pixels: pixels)

    def find(self, pixels: np.ndarray) -> Findings:
        """What a detector or segmenter finds in a decoded image, in its pixels."""
        if self.task.locate is None:
            raise ModelError(f"{self.folder} is {self.task.title}")
        try:
            found = self.run(self._steps.apply(pixels))
            return self.task.locate(found, self._steps.place(*pixels.shape[:2]), self.labels)
        except NotAnAnswer as error:
            raise ModelError(f"{self.folder} {error}") from None
        except (ValueError, LookupError, TypeError) as error:
            raise ModelError(f"{self.folder} gives outputs of another kind ({error})") from None

    def golden_error(self) -> tuple[float, float]:
        """(relative error, the most that it may be) of the pair that PyTorch computed for this model."""
        count = len(self._outputs)
        expected = [self._array(f"output{i if count > 1 else ''}") for i in range(count)]
        found = self.run(self._array("input"))
        for one, other in zip(found, expected, strict=True):
            if one.shape[self.task.any_number :] != other.shape[self.task.any_number :]:
                raise ModelError(f"the golden output of {self.folder} is not an output of its model")
        return self.task.compare(found, expected, self._find_tolerance())

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


def show(model: Model, image: str, said: argparse.Namespace, number: int) -> dict[str, Any]:
    """What the model says of an image, as `--json` prints it."""
    if model.task.locate is None:
        best = model.classify(image, said.top)
        return {"image": image, "top": [{"label": label, "probability": share} for label, share in best]}
    pixels = model.decode(image)
    findings = model.find(pixels)
    answer: dict[str, Any] = {"image": image, **findings.to_dict()}
    if said.save is not None:
        said.save.mkdir(parents=True, exist_ok=True)
        for end, picture in draw_pictures(findings, pixels).items():
            path = said.save / f"{number:03d}-{Path(image).stem}{end}"
            Image.fromarray(picture).save(path, "PNG")
            answer.setdefault("saved", []).append(str(path))
    return answer


def list_lines(answer: dict[str, Any]) -> list[str]:
    """What `show` gives, for people."""
    rows = [each for name in ("top", "classes", "detections") for each in answer.get(name, ())]
    lines = []
    for row in rows:
        value = next(row[name] for name in ("probability", "share", "score") if name in row)
        place = " ".join(f"{side:.1f}" for side in row.get("bbox", ()))
        lines.append(f"    {value:.4f}  {row['label']}  {place}".rstrip())
    return lines + [f"    saved {path}" for path in answer.get("saved", ())]


def check_golden(names: Sequence[str], portable: bool) -> int:
    """Runs the golden pair of each bundle. Returns the exit code."""
    code = 0
    for name in names:
        model = Model(name, portable=portable)
        error, most = model.golden_error()
        code = code if error <= most else 1
        verdict = "passed" if error <= most else "FAILED"
        print(f"{name}: {model.runtime}: relative error {error:.2g}, at most {most:.2g}: {verdict}")
    return code


def main() -> int:
    """The program. Returns the exit code."""
    parser = argparse.ArgumentParser(description="What models say of images, or the golden pairs of bundles.")
    parser.add_argument("names", nargs="+", metavar="BUNDLE IMAGE...")
    parser.add_argument("--golden", action="store_true", help="run the golden pair of each bundle")
    parser.add_argument("--top", type=int, default=5, help="classes of each image")
    parser.add_argument("--portable", action="store_true", help="without our operators: the same results, slower")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--save", type=Path, help="a new folder for drawings of what is found")
    said = parser.parse_args()
    try:
        if said.golden:
            return check_golden(said.names, said.portable)
        model = Model(said.names[0], portable=said.portable)
        if said.save is not None and (model.task.locate is None or said.save.exists()):
            raise ModelError(f"there is nothing to draw in {said.save}, or it exists")
        answers = [show(model, image, said, number) for number, image in enumerate(said.names[1:])]
        if said.json:
            print(json.dumps({"bundle": said.names[0], "predictions": answers}, sort_keys=True, indent=2))
        for answer in () if said.json else answers:
            print("\n".join([answer["image"], *list_lines(answer)]))
    except (ModelError, OSError, ValueError) as problem:
        print(f"evm_model: {problem}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
