"""Held-out accuracy of the example networks in INT8: onnxruntime's own `quantize_static`, and ours, beside float.

python benchmarks/int8_accuracy.py [--networks digits calls] [--images 4000] [--calibration 256] [--only-static]
Everything runs in onnxruntime with our operator library, image by image, from the same float bundle and the same
calibration images; "everything" is every operation that `quantize_static` can quantise, "layers" convolutions and
matrix products alone. Differences are in points, with a 95 % interval over the images (paired: same images).
"""

import argparse
import contextlib
import importlib.util
import io
import logging
import math
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from timing import save, table

import evm_deploy
from evm_deploy import ExportOptions
from evm_deploy.bundle import Bundle
from evm_deploy.calib.options import METHODS, QuantizeOptions
from evm_deploy.runtimes.onnxruntime import OnnxRunner

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parent / "examples"
LAYERS = ["Conv", "MatMul", "Gemm"]
HISTOGRAM_IMAGES = 64  # its percentile and entropy keep every activation of every image in memory


def static(method: str = "MinMax", *, layers: bool = False, per_channel: bool = True, **extra: Any) -> dict[str, Any]:
    """Arguments of `quantize_static`."""
    return {
        "calibrate_method": CalibrationMethod[method],
        "op_types_to_quantize": LAYERS if layers else None,
        "per_channel": per_channel,
        "extra_options": extra,
    }


STATIC = {
    "min-max, everything, weights per tensor": static(per_channel=False),
    "min-max, everything": static(),
    "min-max, layers": static(layers=True),
    "percentile 99.99, everything": static("Percentile", CalibPercentile=99.99),
    "percentile 99.9, everything": static("Percentile", CalibPercentile=99.9),
    "percentile 99.9, layers": static("Percentile", layers=True, CalibPercentile=99.9),
    "entropy, everything": static("Entropy"),
    "entropy, layers": static("Entropy", layers=True),
}


@dataclass(frozen=True)
class Network:
    """An example, with the images that calibrate it and those that judge it, as arrays (n, H, W, 3) and (n,)."""

    name: str
    image_size: tuple[int, int]
    held_out: tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]
    calibration: tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]
    model_inputs: Callable[..., npt.NDArray[np.float32]]


class Reader(CalibrationDataReader):  # type: ignore[misc]
    """One input after the other."""

    def __init__(self, inputs: npt.NDArray[np.float32]) -> None:
        self._inputs = iter(inputs)

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        """The next input by name; None after the last."""
        image = next(self._inputs, None)
        return None if image is None else {"image": image[None]}


def main() -> None:
    """Prints a Markdown table for each network, writes benchmarks/results/int8_accuracy.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="*", choices=("digits", "calls"), default=["digits", "calls"])
    parser.add_argument("--images", type=int, default=4000, help="held-out calls")
    parser.add_argument("--calibration", type=int, default=256, help="images")
    parser.add_argument("--only-static", action="store_true", help="without ours")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "int8_accuracy.json")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    rows = []
    for name in options.networks:
        found = measure(network(name, options.images, options.calibration), ours=not options.only_static)
        print(f"\n{table(found)}", flush=True)
        rows += found
    save(options.out, rows, calibration=options.calibration)


def network(name: str, count: int, calibration: int) -> Network:
    """digits calibrates on its training part, evenly taken; calls has a split of its own for that."""
    data = module(EXAMPLES / name / "data.py")
    size = data.PREPROCESSING.image_size
    if name == "calls":
        splits = data.draw("held-out", count), data.draw("calibration", calibration)
        return Network(name, size, *splits, data.model_inputs)
    images, labels = data.training()
    chosen = np.linspace(0, len(labels) - 1, min(calibration, len(labels))).astype(int)
    return Network(name, size, data.held_out(), (images[chosen], labels[chosen]), data.model_inputs)


def module(path: Path) -> ModuleType:
    """A script of the examples, by its path: each example has a `data.py`."""
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}_data", path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def measure(network: Network, *, ours: bool) -> list[dict[str, object]]:
    """A row for float, one for each way of `quantize_static`, and one for each of our methods."""
    images, labels = network.held_out
    inputs = network.model_inputs(images)
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        bundle = evm_deploy.export(
            EXAMPLES / network.name / f"{network.name}.safetensors",
            folder / "float",
            ExportOptions(image_size=network.image_size, labels=EXAMPLES / network.name / "labels.txt"),
        ).bundle
        plain = scores(bundle.model_path, inputs)

        def add(way: str, model: Path) -> None:
            found = plain if model == bundle.model_path else scores(model, inputs)
            rows.append(row(network.name, way, model, found, plain, labels))
            print(f"{network.name}, {way}: {rows[-1]['top-1 %']} %", file=sys.stderr, flush=True)

        add("float", bundle.model_path)
        for way, arguments in STATIC.items():
            add(f"quantize_static: {way}", by_quantize_static(bundle, network, arguments, folder / "static.onnx"))
        for way, chosen in (OURS if ours else {}).items():
            add(f"evm-deploy: {way}", by_us(bundle, network, chosen, folder / "ours"))
    return rows


def by_quantize_static(bundle: Bundle, network: Network, arguments: dict[str, Any], path: Path) -> Path:
    """QDQ, activations uint8 for the whole tensor, weights int8."""
    images = network.calibration[0]
    if arguments["calibrate_method"] != CalibrationMethod.MinMax:
        images = images[np.linspace(0, len(images) - 1, min(len(images), HISTOGRAM_IMAGES)).astype(int)]
    with contextlib.redirect_stdout(io.StringIO()):  # it tells of every histogram
        quantize_static(
            bundle.model_path,
            path,
            Reader(network.model_inputs(images)),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            **arguments,
        )
    return path


OURS = {"defaults": QuantizeOptions(verify=False, overwrite=True)} | {
    method: QuantizeOptions(method=method, verify=False, overwrite=True) for method in METHODS
}


def by_us(bundle: Bundle, network: Network, options: QuantizeOptions, out: Path) -> Path:
    """The model that `evm-deploy quantize` writes from the same images."""
    return evm_deploy.quantize(
        bundle.path, list(zip(*network.calibration, strict=True)), out, options
    ).bundle.model_path


def scores(model: Path, inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(n, 3, h, w) -> logits (n, classes)."""
    with OnnxRunner(model, library=True, threads=1) as runner:
        return np.concatenate([runner.run(inputs[i : i + 1])[0] for i in range(len(inputs))])


def row(
    name: str,
    way: str,
    model: Path,
    found: npt.NDArray[np.float32],
    plain: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
) -> dict[str, object]:
    """Accuracy, what was lost to float, and how alike the two are."""
    nodes = [node.op_type for node in onnx.load(model, load_external_data=False).graph.node]
    change = (found.argmax(1) == labels).astype(float) - (plain.argmax(1) == labels)  # -1, 0 or 1
    cosine = (found * plain).sum(1) / (np.linalg.norm(found, axis=1) * np.linalg.norm(plain, axis=1))
    return {
        "network": name,
        "way": way,
        "images": len(labels),
        "top-1 %": f"{100 * (found.argmax(1) == labels).mean():.2f}",
        "points lost": f"{100 * (0 - change.mean()):.2f}",
        "±": f"{196 * change.std() / math.sqrt(len(labels)):.2f}",
        "as float %": f"{100 * (found.argmax(1) == plain.argmax(1)).mean():.2f}",
        "cosine": f"{cosine.mean():.5f}",
        "Q and DQ": sum(kind in ("QuantizeLinear", "DequantizeLinear") for kind in nodes),
    }


if __name__ == "__main__":
    main()
