"""PyTorch to TensorRT: the ONNX graph, how to build an engine of it anywhere, and an engine where a library is here."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from evm_deploy.exporters import onnx as graph
from evm_deploy.exporters.deployed import Source
from evm_deploy.trt import engines, libraries, script
from evm_deploy.trt.build import Request
from evm_deploy.trt.layers import summary
from evm_deploy.trt.plugins.operators import mark
from evm_deploy.trt.shapes import profile

ENGINES, LOG = "engines", "build.log"


def write(source: Source, path: Path, progress: Callable[[str], None]) -> dict[str, Any]:
    """Writes the graph at `path`, the script beside it, and the engine with its log under `engines/`.

    Returns the line for trtexec, the shapes, and what was built and how it was checked; or why nothing was.
    Raises OptionError for a compute capability that the library does not build for, MissingToolError where an engine
    was asked for and there is no library, InputError when it refuses the graph, CheckFailed for another precision.
    """
    options, manifest = source.options, source.manifest
    found = libraries.find()
    if options.compute_capabilities or options.plugin:
        found.needed("an engine")
    capabilities = libraries.chosen(options.compute_capabilities, found.library) if found.library else ()

    proto = graph.export(source.model, manifest.preprocessing, options)
    scans = mark(proto)
    data, shapes = proto.SerializeToString(), profile(manifest)
    path.write_bytes(data)
    script.write_script(path.with_name(script.SCRIPT), path.name, shapes)
    facts = {
        "script": script.SCRIPT,
        "trtexec": script.trtexec_line(path.name, shapes),
        "shapes": {"min": shapes.least, "opt": shapes.best, "max": shapes.most},
        "plugin": options.plugin,
        "scans": scans,
    }
    if found.library is None:
        return facts | {"engine": None, "not_built": "; ".join(found.reasons)}

    request = Request(data, options.precision, shapes, capabilities, scans, options.plugin)
    engine = engines.built(found.library, request, progress)
    folder = path.with_name(ENGINES)
    folder.mkdir()
    name = "_".join([found.library.__name__, *map(libraries.shorthand, capabilities)]) + ".engine"
    (folder / name).write_bytes(engine.data)
    (folder / LOG).write_text(engine.log, encoding="utf-8")
    built = {
        "file": f"{ENGINES}/{name}",
        "library": libraries.name_of(found.library),
        "compute_capabilities": list(capabilities),
        "inspected_by": engine.inspected,
        "layers": summary(engine.layers),
    }
    return facts | {"engine": built}
