"""Exports to TensorRT: the ONNX graph, a script that builds an engine from it, and an engine if a library is here."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from evm_deploy.exporters import onnx as graph
from evm_deploy.exporters.deployed import Source
from evm_deploy.exporters.tensorrt import engines, integer_products, libraries, script
from evm_deploy.exporters.tensorrt.build import Engine, EngineRequest
from evm_deploy.exporters.tensorrt.layers import count_layers
from evm_deploy.exporters.tensorrt.plugins.operators import mark_scans
from evm_deploy.exporters.tensorrt.precision import INTEGERS
from evm_deploy.exporters.tensorrt.shapes import choose_shapes
from evm_deploy.manifest import Manifest

ENGINES, LOG = "engines", "build.log"
Progress = Callable[[str], None]


@dataclass(frozen=True)
class EngineOptions:
    """The options of an engine. Without compute capabilities, it is built for all that an available library offers."""

    precision: str
    compute_capabilities: tuple[str, ...] = ()
    plugin: bool = False

    def find_library(self) -> libraries.LibrarySearch:
        """Finds the library that builds it here. Raises MissingToolError if an engine was requested and there is no
        library, OptionError for a compute capability that the library does not support.
        """
        found = libraries.find_library()
        if self.compute_capabilities or self.plugin:
            found.require("an engine")
        if found.library is not None:
            libraries.choose_capabilities(self.compute_capabilities, found.library)
        return found


def write(source: Source, path: Path, progress: Progress) -> dict[str, Any]:
    """Writes the graph at `path`, the script beside it, and the engine with its log under `engines/`.

    Returns and raises what `write_graph` does.
    """
    options, manifest = source.options, source.manifest
    wishes = EngineOptions(options.precision, options.compute_capabilities, options.plugin)
    wishes.find_library()  # fails before anything is traced
    proto = graph.export(source.network, manifest, options)
    return write_graph(proto, manifest, wishes, path, progress)


def write_graph(
    proto: onnx.ModelProto, manifest: Manifest, wishes: EngineOptions, path: Path, progress: Progress
) -> dict[str, Any]:
    """Writes the same for an existing graph, whose input is that of the manifest. Marks the graph's scans.

    Returns the line for trtexec, the shapes, and what was built and how it was checked; or why nothing was.
    Raises OptionError for a compute capability that the library does not support, MissingToolError if an engine was
    requested and there is no library, InputError when it refuses the graph, CheckFailed for another precision.
    """
    found, scans, shapes = wishes.find_library(), mark_scans(proto), choose_shapes(manifest)
    data = proto.SerializeToString()
    path.write_bytes(data)
    script.write_script(path.with_name(script.SCRIPT), path.name, shapes)
    facts = {
        "script": script.SCRIPT,
        "trtexec": script.make_trtexec_line(path.name, shapes),
        "shapes": {"min": shapes.least, "opt": shapes.best, "max": shapes.most},
        "plugin": wishes.plugin,
        "scans": scans,
    }
    if wishes.precision in INTEGERS:
        facts["integer_products"] = len(integer_products.find_integer_products(data))
    if found.library is None:
        return facts | {"engine": None, "not_built": "; ".join(found.reasons)}

    capabilities = libraries.choose_capabilities(wishes.compute_capabilities, found.library)
    request = EngineRequest(data, wishes.precision, shapes, capabilities, scans, wishes.plugin)
    engine = engines.get_engine(found.library, request, progress)
    return facts | {"engine": _write_engine(engine, found.library, capabilities, path)}


def _write_engine(engine: Engine, library: Any, capabilities: tuple[str, ...], path: Path) -> dict[str, Any]:
    """Writes the engine and its log into their folder beside the graph. Returns what is known of it."""
    folder = path.with_name(ENGINES)
    folder.mkdir()
    name = "_".join([library.__name__, *map(libraries.shorten_capability, capabilities)]) + ".engine"
    (folder / name).write_bytes(engine.data)
    (folder / LOG).write_text(engine.log, encoding="utf-8")
    return {
        "file": f"{ENGINES}/{name}",
        "library": libraries.name_library(library),
        "compute_capabilities": list(capabilities),
        "inspected_by": engine.inspected,
        "layers": count_layers(engine.layers),
    }
