"""INT8 for TensorRT: writes a graph with symmetric quantisation, and builds an engine if a library is available."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from evm_deploy.bundle import Bundle
from evm_deploy.calib.onnx.scheme import TENSORRT
from evm_deploy.calib.quantize_options import QuantizeOptions
from evm_deploy.data.samples import Samples
from evm_deploy.exporters.tensorrt.export import EngineOptions, write_graph


def quantize(
    bundle: Bundle, samples: Samples, options: QuantizeOptions, path: Path, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Writes the quantised graph at `path`, the script beside it, and an engine like that of the float bundle.

    Returns what `exporters.tensorrt.write_graph` does, and under "calibration" what is known of the graph. Raises
    CheckFailed where a product that the graph has on integers is not so in the engine; MissingToolError where the
    bundle was exported with a plugin, and there is no library here.
    """
    from evm_deploy.calib.onnx.quantize import quantize_graph

    proto, facts = quantize_graph(bundle, samples, options, TENSORRT, progress)
    return write_graph(proto, bundle.manifest, read_engine_options(bundle), path, progress) | {"calibration": facts}


def read_engine_options(bundle: Bundle) -> EngineOptions:
    """Reads which engine the float bundle has: for which GPUs, and with or without the plugin."""
    facts = bundle.manifest.build or {}
    engine = facts.get("engine")
    capabilities = engine.get("compute_capabilities") if isinstance(engine, dict) else None
    return EngineOptions(
        "int8",
        tuple(map(str, capabilities)) if isinstance(capabilities, (list, tuple)) else (),
        facts.get("plugin") is True,
    )


def check(bundle: Bundle, source: Bundle) -> dict[str, Any]:
    """Reports the integer products; those of an engine were compared with the graph when it was built."""
    facts = bundle.manifest.build or {}
    built = "on integers in the engine" if facts.get("engine") else "on integers in the graph; no engine was built here"
    return {"notes": [f"{facts['integer_products']} convolutions and matrix products {built}"]}
