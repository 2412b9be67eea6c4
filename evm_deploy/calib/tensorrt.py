"""INT8 for TensorRT: the graph with symmetric conversions in it, and an engine of it where one can be built."""

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
    """Writes the quantised graph at `path`, the script beside it, and an engine as the float bundle has one.

    Returns what `exporters.tensorrt.write_graph` does, and under "calibration" what is known of the graph. Raises
    CheckFailed where a product that the graph has on integers is not so in the engine; MissingToolError where the
    bundle was exported with a plugin, and there is no library here.
    """
    from evm_deploy.calib.onnx.quantize import quantize_graph

    proto, facts = quantize_graph(bundle, samples, options, TENSORRT, progress)
    return write_graph(proto, bundle.manifest, read_engine_options(bundle), path, progress) | {"calibration": facts}


def read_engine_options(bundle: Bundle) -> EngineOptions:
    """An engine like the one that the float bundle has: for the same GPUs, with the plugin or without."""
    facts = bundle.manifest.build or {}
    engine = facts.get("engine")
    capabilities = engine.get("compute_capabilities") if isinstance(engine, dict) else None
    return EngineOptions(
        "int8",
        tuple(map(str, capabilities)) if isinstance(capabilities, (list, tuple)) else (),
        facts.get("plugin") is True,
    )


def check(bundle: Bundle, source: Bundle) -> dict[str, Any]:
    """What there is to say of the integers: the engine's products were held against the graph as it was built."""
    facts = bundle.manifest.build or {}
    built = "on integers in the engine" if facts.get("engine") else "on integers in the graph; no engine was built here"
    return {"notes": [f"{facts['integer_products']} convolutions and matrix products {built}"]}
