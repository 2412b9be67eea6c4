"""Writes one small thing of each kind that this version can write, as one archive: write.py tests/compatibility/X.zip.

`test_compatibility.py` opens what every version wrote. An archive is never written again: before a change of a schema
run this once more, under a name that says the version.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

import evm_deploy
from evm_deploy import compiling
from evm_deploy.benchmarking import benchmark
from evm_deploy.benchmarking.benchmark_options import BenchmarkOptions
from evm_deploy.calib.quantize_options import QuantizeOptions
from evm_deploy.evaluation.evaluate_options import EvaluateOptions
from evm_deploy.exporters.tensorrt import libraries
from evm_deploy.models import EfficientVMamba, ModelConfig
from evm_deploy.packaging.package_options import PackageOptions
from evm_deploy.profiling.profile_options import ProfileOptions

CLASSES = ("red", "green", "blue")
SIZE = (32, 32)
IMAGE = Path("images", "red", "0.png")
EXPORTS = {
    "onnx_fp32": {},
    "onnx_fp16": {"precision": "fp16"},
    "onnx_baked": {"bake_preprocessing": True, "softmax": True},
    "onnx_dynamic": {"dynamic_batch": True, "dynamic_size": True},
    "onnx_inlined": {"scan_form": "inlined", "opset": 18},
    "coreml_fp32": {"target": "coreml"},
    "coreml_fp16": {"target": "coreml", "precision": "fp16", "deployment_target": "iOS17", "bake_preprocessing": True},
    "tensorrt_fp32": {"target": "tensorrt"},
}
QUANTISED = {"onnx_int8": "onnx_fp32", "coreml_int8": "coreml_fp16", "tensorrt_int8": "tensorrt_fp32"}
PACKAGES = {
    "linux": ["onnx_fp32", "onnx_int8"],
    "jetson": ["onnx_fp32", "tensorrt_fp32"],
    "web": ["onnx_fp32"],
    "android": ["onnx_fp32"],
    "ios": ["coreml_fp16"],
}
ARCHIVED = ("ios", "linux")  # of the others the index alone is kept


def main(out: Path) -> None:
    """Writes everything into the archive `out`, which must not exist."""
    target, content = out.absolute(), Path("content")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # reports hold paths as they were given
        write_folder(content, Path())
        with zipfile.ZipFile(target, "x", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for path in sorted(content.rglob("*")):
                archive.write(path, path.relative_to(content))


def write_folder(out: Path, scratch: Path) -> None:
    out.mkdir()
    write_checkpoint(out)
    paint(out / "images")
    write_bundles(out, scratch)
    write_reports(out, scratch)
    write_packages(out, scratch)
    predictions = {
        name: dict(evm_deploy.predict(out / name, [out / IMAGE])[0].top)
        for name in (*EXPORTS, *QUANTISED)
        if not name.startswith("tensorrt")
    }
    (out / "predictions.json").write_text(json.dumps(predictions, indent=2) + "\n")


def write_checkpoint(out: Path) -> None:
    torch.manual_seed(0)
    network = EfficientVMamba(ModelConfig((8, 8), (1, 1), blocks=("evss", "inres"), num_classes=len(CLASSES)))
    network.classifier.head.weight.data *= 10  # of random features the shares of the classes hardly differ
    save_file(network.state_dict(), out / "checkpoint.safetensors")
    (out / "labels.txt").write_text("".join(f"{name}\n" for name in CLASSES))


def paint(folder: Path) -> None:
    """Three pictures of each class."""
    rng = np.random.default_rng(0)
    for channel, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for index in range(3):
            pixels = rng.integers(0, 120, (*SIZE, 3), dtype=np.uint8)
            pixels[..., channel] += 100
            Image.fromarray(pixels).save(folder / name / f"{index}.png")


def write_bundles(out: Path, scratch: Path) -> None:
    for name, more in EXPORTS.items():
        options = evm_deploy.ExportOptions(image_size=SIZE, labels=out / "labels.txt", **more)  # type: ignore[arg-type]
        evm_deploy.export(out / "checkpoint.safetensors", out / name, options)
    for name, source in QUANTISED.items():
        cache = scratch / f"cache_{name}"
        evm_deploy.quantize(out / source, str(out / "images"), out / name, QuantizeOptions(cache=cache))
        if name == "onnx_int8":
            shutil.copytree(cache, out / "calibration")


def write_reports(out: Path, scratch: Path) -> None:
    bundles = [out / "onnx_fp32", out / "onnx_int8"]
    profile = ProfileOptions(iterations=5, threads=1, operators=True, every_way=True, out=scratch / "profile")
    evm_deploy.profile(bundles, profile)
    evaluation = EvaluateOptions(latency_runs=3, out=out / "evaluation")
    evm_deploy.evaluate(bundles, str(out / "images"), evaluation)
    options = BenchmarkOptions(targets=("onnx",), image_size=SIZE, iterations=5, threads=1, out=scratch / "benchmark")
    benchmark.benchmark(out / "checkpoint.safetensors", options)
    for name in ("profile", "benchmark"):  # pages and pictures are for people: nothing reads them again
        (out / name).mkdir()
        for file in (scratch / name).glob("*.json"):
            shutil.copy(file, out / name)


def write_packages(out: Path, scratch: Path) -> None:
    (out / "packages").mkdir()
    for platform, names in PACKAGES.items():
        place = scratch / platform
        evm_deploy.package([out / name for name in names], place, PackageOptions(platform, archive=True))
        shutil.copy(place / "evm-package.json", out / "packages" / f"{platform}.json")
        if platform in ARCHIVED:
            shutil.copy(place.with_name(f"{platform}.zip"), out / "packages")


if __name__ == "__main__":
    none = libraries.LibrarySearch(None, ("none was wanted",))
    with (
        mock.patch.object(libraries, "find_library", return_value=none),  # an engine is megabytes
        mock.patch.object(compiling, "find_zig_version", return_value=None),  # compiling takes minutes
        mock.patch("evm_deploy.scan.native.available", return_value=False),  # a library is too
    ):
        main(Path(sys.argv[1]))
