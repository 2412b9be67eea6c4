"""INT8 for OpenVINO: the graph of onnxruntime in standard operators, and what OpenVINO runs of it on integers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from evm_deploy.bundle import Bundle
from evm_deploy.calib.onnx import quantize as onnx
from evm_deploy.calib.quantize_options import QuantizeOptions
from evm_deploy.data.samples import Samples
from evm_deploy.optional import import_library
from evm_deploy.runtimes.openvino import OpenVinoRunner


def quantize(
    bundle: Bundle, samples: Samples, options: QuantizeOptions, path: Path, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Writes the quantised graph at `path`. Raises MissingToolError: OpenVINO is not installed."""
    import_library("openvino")
    return onnx.quantize(bundle, samples, options, path, progress)


def check(bundle: Bundle, source: Bundle) -> dict[str, Any]:
    """Reports how many products OpenVINO runs on integers; the first projection of a scan is not among them."""
    with OpenVinoRunner(bundle.read_model()) as runner:
        integers, products = runner.count_products()
    return {"notes": [f"OpenVINO: {integers} of {products} convolutions and matrix products on integers"]}
