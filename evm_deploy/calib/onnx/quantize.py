"""Quantises a float ONNX bundle for onnxruntime, and checks what really runs on integers."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx

from evm_deploy.bundle import Bundle
from evm_deploy.calib.onnx.measure import Measured, build_integer_graph, measure
from evm_deploy.calib.onnx.pareto import plot_search
from evm_deploy.calib.onnx.scheme import ONNXRUNTIME, Scheme
from evm_deploy.calib.onnx.search import group_layers, search
from evm_deploy.calib.onnx.speed import compare_speed
from evm_deploy.calib.quantize_options import QuantizeOptions
from evm_deploy.data.samples import Samples
from evm_deploy.errors import CheckFailed, OptionError
from evm_deploy.graph.inlining import inline_bodies
from evm_deploy.runtimes.onnxruntime import OnnxRunner, list_forms
from evm_deploy.tasks import Task, find_task
from evm_deploy.verification.integer_report import report_integers

Progress = Callable[[str], None]


def quantize(
    bundle: Bundle, samples: Samples, options: QuantizeOptions, path: Path, progress: Progress
) -> dict[str, Any]:
    """Writes the quantised graph at `path`. Returns the facts of the quantisation under "calibration"."""
    task = find_task(bundle.manifest.task)
    if options.search and isinstance(task.search_score, str):
        raise OptionError(f"{task.title} {task.search_score}.", "leave --search out.")
    measured = measure(bundle, samples, options, ONNXRUNTIME, progress)
    chosen, found = measured.chosen, dict[str, Any]()
    if options.search:
        chosen, found = _search_layers(measured, samples, options, task, progress)
    progress("writing integers")
    proto, facts = build_integer_graph(measured, chosen, ONNXRUNTIME)
    if options.scan_form == "inlined":
        proto = inline_bodies(proto)
        onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString())
    return {"calibration": facts | found}


def check(bundle: Bundle, source: Bundle) -> dict[str, Any]:
    """Reports what runs on integers, in every way that this machine can run the bundle, and its speed against float.

    Raises CheckFailed when a layer that should run on integers does not.
    """
    reports = [report_integers(bundle, library=library) for library in list_forms(bundle)]
    wanted = len((bundle.manifest.calibration or {}).get("layers", ()))
    for report in reports:
        found = sum(product.integer for product in report.products)
        if found < wanted:
            raise CheckFailed(
                f"{report.runtime} runs {found} of {wanted} layers on integers; in float: {', '.join(report.floats)}.",
                "use the onnxruntime that pyproject.toml names, or --exclude these layers.",
            )
    image = bundle.sample().input
    library = list_forms(bundle)[-1]  # the float model in the same way
    with OnnxRunner(source.model_path, library=library, threads=1) as float_:
        with OnnxRunner(bundle.model_path, library=library, threads=1) as integer:
            speed = compare_speed(float_, integer, image)
    notes = [report.describe() for report in reports] + [speed.describe()]
    return {"integers": [report.to_dict() for report in reports], "speed": asdict(speed), "notes": notes}


def quantize_graph(
    bundle: Bundle, samples: Samples, options: QuantizeOptions, scheme: Scheme, progress: Progress
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Returns the graph with integers, and what was done: method, layers, equalisation, ranges.

    Raises InputError: the bundle is not float32, or has the scan written out; OptionError: an unknown name to exclude;
    CheckFailed: the equalised graph is not the same function.
    """
    measured = measure(bundle, samples, options, scheme, progress)
    progress("writing integers")
    return build_integer_graph(measured, measured.chosen, scheme)


def _search_layers(
    measured: Measured, samples: Samples, options: QuantizeOptions, task: Task, progress: Progress
) -> tuple[list[str], dict[str, Any]]:
    """Searches for the best mix. Returns its layers, and the record of the search."""
    parts = group_layers((layer for layer in measured.layers if layer.name in measured.chosen), options.by)
    found = search(
        parts,
        lambda names: build_integer_graph(measured, names, ONNXRUNTIME)[0].SerializeToString(),
        samples,
        options.max_drop,
        task=task,
        cache=None if options.cache is None else Path(options.cache) / "search.json",
        progress=progress,
    )
    if options.plots is not None:
        plot_search(found, Path(options.plots))
    return [name for part in found.best.parts for name in parts[part]], {
        "search": found.to_dict(),
        "notes": [*measured.facts["notes"], *found.make_notes()],
    }
