"""Held-out accuracy of the example networks in INT8: onnxruntime's own `quantize_static`, and ours, beside float.

python benchmarks/int8_accuracy.py [--networks digits calls calls=vmamba.safetensors] [--images 4000]
                                   [--calibration 256]
A file after the name of an example is of another network that its train.py made.
Everything runs in onnxruntime with our operator library, image by image, from the same float bundle and the same
calibration images; "everything" is every operation that `quantize_static` can quantise, "layers" convolutions and
matrix products alone. "points lost" are of top-1 against float, with the 95 % interval of the difference between two
answers to the same images (Agresti and Min, 2005, which holds where hardly an answer changes).
"""

import argparse
import contextlib
import io
import logging
import math
import runpy
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from rows import save, table

import evm_deploy
from evm_deploy import ExportOptions
from evm_deploy.calib.quantize_options import METHODS, QuantizeOptions
from evm_deploy.runtimes.onnxruntime import OnnxRunner

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parent / "examples"
LAYERS = ["Conv", "MatMul", "Gemm"]
FIRST = "node_conv2d"  # the convolution that reads the image, as the exporter names it
HISTOGRAM_IMAGES = 64  # its percentile and entropy keep every activation of every image in memory

STATIC: dict[str, dict[str, Any]] = {
    "min-max, everything, weights per tensor": {"per_channel": False},
    "min-max, everything": {},
    "min-max, layers": {"op_types_to_quantize": LAYERS},
    "min-max, layers, the first in float": {"op_types_to_quantize": LAYERS, "nodes_to_exclude": [FIRST]},
    "min-max, layers, their outputs in float": {
        "op_types_to_quantize": LAYERS,
        "extra_options": {"OpTypesToExcludeOutputQuantization": LAYERS},
    },
    **{
        f"{method.lower()}{percentile}, {what}": {
            "calibrate_method": CalibrationMethod[method],
            "op_types_to_quantize": types,
            "extra_options": {"CalibPercentile": float(percentile or 0)},
        }
        for method, percentile in (("Percentile", " 99.99"), ("Percentile", " 99.9"), ("Entropy", ""))
        for what, types in (("everything", None), ("layers", LAYERS))
    },
}
OURS: dict[str, dict[str, Any]] = {
    f"defaults ({METHODS[0]})": {},
    **{method: {"method": method} for method in METHODS[1:]},
    "defaults without equalisation": {"equalise": False},
    "defaults without bias correction": {"bias_correction": False},
    "defaults without either": {"equalise": False, "bias_correction": False},
}

Images = npt.NDArray[np.uint8]  # (n, H, W, 3)
Labels = npt.NDArray[np.int64]  # (n,)
Scores = npt.NDArray[np.float32]  # (n, classes)


def main() -> None:
    """Prints a Markdown table for each network, writes benchmarks/results/int8_accuracy.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="*", default=["digits", "calls"], help="EXAMPLE or EXAMPLE=CHECKPOINT")
    parser.add_argument("--images", type=int, default=4000, help="held-out calls; of digits it is always all 454")
    parser.add_argument("--calibration", type=int, default=256, help="images")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "int8_accuracy.json")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    rows = []
    for network in options.networks:
        example, _, checkpoint = network.partition("=")
        path = Path(checkpoint or EXAMPLES / example / f"{example}.safetensors")
        found = measure(Example.read(example, path, options.images, options.calibration))
        print(f"\n{table(found)}", flush=True)
        rows += found
    save(options.out, rows, calibration=options.calibration, histograms_of_quantize_static=HISTOGRAM_IMAGES)


@dataclass(frozen=True)
class Example:
    """A network of the examples, the images that calibrate it, and those that judge it."""

    name: str
    checkpoint: Path
    data: SimpleNamespace
    calibration: tuple[Images, Labels]
    held_out: tuple[Images, Labels]

    @staticmethod
    def read(example: str, checkpoint: Path, count: int, calibration: int) -> "Example":
        """digits calibrates on its training part, evenly taken; calls has a split of its own for that."""
        data = SimpleNamespace(**runpy.run_path(str(EXAMPLES / example / "data.py")))  # each example has one
        name = checkpoint.stem if checkpoint.stem == example else f"{example}, {checkpoint.stem}"
        if example == "calls":
            return Example(name, checkpoint, data, data.draw("calibration", calibration), data.draw("held-out", count))
        images, labels = data.training()
        chosen = _evenly(len(labels), calibration)
        return Example(name, checkpoint, data, (images[chosen], labels[chosen]), data.held_out())

    def export(self, folder: Path) -> Path:
        """The float bundle."""
        options = ExportOptions(image_size=self.data.PREPROCESSING.image_size)
        return evm_deploy.export(self.checkpoint, folder, options).bundle.path


def measure(example: Example) -> list[dict[str, object]]:
    """A row for float, one for each way of `quantize_static`, and one for each of ours."""
    inputs, labels = example.data.model_inputs(example.held_out[0]), example.held_out[1]
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        bundle = example.export(folder / "float")
        plain = scores(bundle / "model.onnx", inputs)

        def add(way: str, model: Path) -> None:
            rows.append(row(example.name, way, model, scores(model, inputs), plain, labels))
            print(f"{example.name}, {way}: {rows[-1]['top-1 %']} %", file=sys.stderr, flush=True)

        add("float", bundle / "model.onnx")
        for way, arguments in STATIC.items():
            by_quantize_static(bundle / "model.onnx", example, arguments, folder / "static.onnx")
            add(f"quantize_static: {way}", folder / "static.onnx")
        for way, arguments in OURS.items():
            options = QuantizeOptions(samples=None, verify=False, overwrite=True, **arguments)
            evm_deploy.quantize(bundle, list(zip(*example.calibration, strict=True)), folder / "ours", options)
            add(f"evm-deploy: {way}", folder / "ours" / "model.onnx")
    return rows


def by_quantize_static(model: Path, example: Example, arguments: dict[str, Any], out: Path) -> None:
    """Writes QDQ: activations uint8 for the whole tensor, weights int8, for each channel where not said otherwise."""
    images = example.calibration[0]
    if "calibrate_method" in arguments:
        images = images[_evenly(len(images), HISTOGRAM_IMAGES)]
    kinds = {"quant_format": QuantFormat.QDQ, "activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    reader = Reader(example.data.model_inputs(images))
    with contextlib.redirect_stdout(io.StringIO()):  # it tells of every histogram
        quantize_static(model, out, reader, **({"per_channel": True} | kinds | arguments))


class Reader(CalibrationDataReader):
    """One input after the other."""

    def __init__(self, inputs: npt.NDArray[np.float32]) -> None:
        self._inputs = iter(inputs)

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        """The next input by name; None after the last."""
        image = next(self._inputs, None)
        return None if image is None else {"image": image[None]}


def scores(model: Path, inputs: npt.NDArray[np.float32]) -> Scores:
    """(n, 3, h, w) -> logits (n, classes)."""
    with OnnxRunner(model, library=True, threads=1) as runner:
        return np.concatenate([runner.run(inputs[i : i + 1])[0] for i in range(len(inputs))])


def row(name: str, way: str, model: Path, found: Scores, plain: Scores, labels: Labels) -> dict[str, object]:
    """Accuracy, what was lost to float, and how alike the two are."""
    nodes = [node.op_type for node in onnx.load(model, load_external_data=False).graph.node]
    right, once_right = found.argmax(1) == labels, plain.argmax(1) == labels
    lost, won = int((once_right & ~right).sum()), int((right & ~once_right).sum())
    n = len(labels) + 2  # half an image more in each of the four cells
    error = math.sqrt(lost + won + 1 - (lost - won) ** 2 / n) / n
    cosine = (found * plain).sum(1) / (np.linalg.norm(found, axis=1) * np.linalg.norm(plain, axis=1))
    return {
        "network": name,
        "way": way,
        "images": len(labels),
        "top-1 %": f"{100 * right.mean():.2f}",
        "points lost": f"{100 * (once_right.mean() - right.mean()):.2f}",
        "±": "0" if way == "float" else f"{196 * error:.2f}",
        "as float %": f"{100 * (found.argmax(1) == plain.argmax(1)).mean():.2f}",
        "cosine": f"{cosine.mean():.5f}",
        "Q and DQ": sum(kind in ("QuantizeLinear", "DequantizeLinear") for kind in nodes),
    }


def _evenly(of: int, count: int) -> npt.NDArray[np.intp]:
    return np.linspace(0, of - 1, min(count, of)).astype(int)


if __name__ == "__main__":
    main()
