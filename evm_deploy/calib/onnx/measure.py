"""What has to be known before integers are written: the graph equalised, and the range of each value in it."""

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnxscript import ir

from evm_deploy.bundle import Bundle
from evm_deploy.calib.collect import collect_statistics
from evm_deploy.calib.onnx.bias import correct_bias
from evm_deploy.calib.onnx.equalise import equalise, find_groups
from evm_deploy.calib.onnx.integer_writer import list_converted_values, write_integers
from evm_deploy.calib.onnx.layers import Layer, find_layers, find_magnified, select_worthwhile
from evm_deploy.calib.onnx.rewrites import rewrite_pixels, rewrite_pools, rewrite_products
from evm_deploy.calib.onnx.scheme import Scheme
from evm_deploy.calib.onnx.taps import Tap
from evm_deploy.calib.plots import plot_ranges
from evm_deploy.calib.quantize_options import QuantizeOptions, check_excluded, check_some_left
from evm_deploy.calib.ranges import Range, choose_range
from evm_deploy.calib.statistics import TensorStatistics
from evm_deploy.data.samples import Samples
from evm_deploy.errors import BundleError, CheckFailed, InputError, first_line
from evm_deploy.graph import functions, schemas
from evm_deploy.graph.integer_weights import find_oversized_pairs
from evm_deploy.graph.uses import list_used
from evm_deploy.tasks import find_task
from evm_deploy.tolerances import PARITY

Progress = Callable[[str], None]
FIRST_PASS = 64  # samples that tell how the channels of a value differ
FEW = 32  # samples: with fewer, it is said that they are few


@dataclass(frozen=True)
class Measured:
    """A float graph, equalised, and the ranges of what can become integers in it."""

    model: ir.Model
    layers: list[Layer]
    chosen: list[str]  # names of the layers to turn
    ranges: dict[str, Range]  # by value
    means: dict[str, npt.NDArray[np.float64]]  # of each channel of the inputs of layers, by value
    facts: dict[str, Any]


def measure(bundle: Bundle, samples: Samples, options: QuantizeOptions, scheme: Scheme, progress: Progress) -> Measured:
    """Everything before integers are written: equalisation, and ranges by the method of the options."""
    proto, model = _read_float_graph(bundle)
    taken = rewrite(model, bundle, scheme)
    found = find_layers(model)
    if not found:
        raise InputError(
            f"no layer of {bundle.path} multiplies by constant weights in float32.", "quantize what `export` wrote."
        )
    image = np.zeros_like(bundle.sample().input)
    outputs = Tap(finish_model(model), [str(layer.node.outputs[0].name) for layer in found])(image)
    shapes = {name: value.shape for name, value in outputs.items()}
    candidates = select_worthwhile(found, shapes)
    magnified = find_magnified(found) if scheme.integer_outputs else []
    chosen = [layer for layer in _without(candidates, options.exclude) if layer not in magnified]

    strengths: dict[str, float] = {}
    notes = [f"{layer.name} stays float: a norm would magnify its rounding" for layer in magnified]
    if len(samples) < FEW:
        notes.append(f"the ranges are those of only {len(samples)} images: a few hundred are usual")
    if options.equalise:
        strengths = _equalise(model, found, {layer.name for layer in chosen}, samples, options, progress)
    check_same(model, proto, bundle)

    axes = dict.fromkeys(list_converted_values(candidates, scheme), -1)
    axes |= {str(layer.input.name): layer.kind.channel_axis for layer in found if layer in candidates}
    axes[proto.graph.input[0].name] = bundle.manifest.inputs[0].layout.index("C")
    statistics = _collect(model, axes, samples, options, "ranges", progress)
    _check_varied(statistics[proto.graph.input[0].name])
    ranges = {
        name: choose_range(seen, options.method, symmetric=scheme.symmetric, percentile=options.percentile)
        for name, seen in statistics.items()
    }
    if taken is not None:
        ranges[taken] = Range(-float(scheme.pixel_zero), 255.0 - scheme.pixel_zero)
    if options.plots is not None:
        plot_ranges(statistics, ranges, Path(options.plots), options.method)
    facts = {
        "method": options.method,
        "percentile": options.percentile if options.method == "percentile" else None,
        "excluded": list(options.exclude),
        "equalised": {name: strength for name, strength in strengths.items() if strength},
        "bias_correction": options.bias_correction,
        "notes": notes,
    }
    means = {name: seen.channel_mean for name, seen in statistics.items()} if options.bias_correction else {}
    return Measured(model, candidates, [layer.name for layer in chosen], ranges, means, facts)


def build_integer_graph(
    measured: Measured, chosen: Collection[str], scheme: Scheme
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """A graph with integers in the chosen layers; `measured` stays as it is."""
    model = measured.model.clone()
    found = [layer for layer in find_layers(model) if layer.name in set(chosen) and scheme.supports(layer)]
    for layer in found:
        name = str(layer.input.name)
        if name in measured.means:
            correct_bias(layer, measured.means[name])
    parameters = write_integers(model, found, measured.ranges, scheme)
    proto = finish_model(model)
    if oversized := find_oversized_pairs(proto):
        raise CheckFailed(
            f"the integers of {oversized[0]} exceed what every processor adds exactly.",
            "report this with the output of `evm-deploy doctor`.",
        )
    facts = {
        "layers": [layer.name for layer in found],
        "float_layers": [layer.name for layer in measured.layers if layer.name not in {each.name for each in found}],
        "ranges": {name: [measured.ranges[name].low, measured.ranges[name].high] for name in parameters},
    }
    return proto, measured.facts | facts


def rewrite(model: ir.Model, bundle: Bundle, scheme: Scheme) -> str | None:
    """The same function in what suits integers, in place. Returns the name of the value that holds pixels, if any."""
    rewrite_pools(model.graph)
    taken = rewrite_pixels(model.graph, bundle.manifest.preprocessing, scheme.pixel_zero)
    if scheme.integer_outputs:
        rewrite_products(model.graph)
    return taken


def _read_float_graph(bundle: Bundle) -> tuple[onnx.ModelProto, ir.Model]:
    """The graph of a float32 bundle, one that our exporter can have written. Raises InputError, BundleError."""
    manifest = bundle.manifest
    if manifest.precision != "fp32":
        raise InputError(
            f"{bundle.path} is {manifest.precision}: its values are rounded already.",
            "quantize the bundle that was exported with --precision fp32.",
        )
    if manifest.scan_form != "operator":
        raise InputError(
            f"the scan is written out in {bundle.path}, so that it cannot be told from a layer.",
            "quantize a bundle that was exported with --scan-form operator.",
        )
    try:
        proto = onnx.load_model_from_string(bundle.read_model())
        onnx.checker.check_model(proto)
        model = ir.from_proto(proto)
    except (DecodeError, ValueError, onnx.checker.ValidationError, ir.serde.SerdeError) as error:
        raise BundleError(
            f"{bundle.model_path} is not a valid graph ({first_line(error)}).", "export the model again."
        ) from error
    names = [node.name for node in proto.graph.node]
    if "" in names or len(set(names)) < len(names):
        raise BundleError(f"{bundle.model_path} is not a graph of evm-deploy.", "quantize what `export` wrote.")
    return proto, model


def _check_varied(image: TensorStatistics) -> None:
    """Raises InputError where every pixel of every image is the same: nothing can be learnt from them."""
    if bool((image.channel_min == image.channel_max).all()):
        raise InputError(
            "all calibration images are of one colour, the same one.", "give images like those that the model will see."
        )


def _without(candidates: list[Layer], excluded: tuple[str, ...]) -> list[Layer]:
    """The layers that are not excluded, by their names or by those of their blocks."""
    known = {layer.name for layer in candidates} | {layer.block for layer in candidates}
    check_excluded({name: name for name in excluded}, known)
    return check_some_left([layer for layer in candidates if not {layer.name, layer.block} & set(excluded)])


def _equalise(
    model: ir.Model,
    found: list[Layer],
    chosen: set[str],
    samples: Samples,
    options: QuantizeOptions,
    progress: Progress,
) -> dict[str, float]:
    """Rescales every group of the graph, in place. Returns how far each went, by the value's name."""
    every = find_groups(found)
    if not every:
        return {}
    axes = {str(group.measured.name): group.channel_axis for group in every}
    few = samples.shard(0, max(1, len(samples) // FIRST_PASS))
    statistics = _collect(model, axes, few, options, "channels", progress)
    return {str(group.value.name): equalise(group, statistics[str(group.measured.name)], chosen) for group in every}


def check_same(model: ir.Model, original: onnx.ModelProto, bundle: Bundle) -> None:
    """Raises CheckFailed unless the graph gives what the original does: a fault here would pass for rounding."""
    image, outputs = bundle.sample().input, bundle.manifest.outputs
    names = [value.name for value in original.graph.output]
    expected, found = Tap(original, names)(image), Tap(finish_model(model), names)(image)
    pairs = [found[name] for name in names], [expected[name] for name in names]
    for row in find_task(bundle.manifest.task).compare(*pairs, outputs, PARITY["fp32"]):
        if not row.passed:
            raise CheckFailed(
                f"preparing the graph changes {row.output} by {row.agreement.relative:.1e} of its scale.",
                "quantize with --no-equalise, and report this with the output of `evm-deploy doctor`.",
            )


def _collect(
    model: ir.Model,
    axes: Mapping[str, int],
    samples: Samples,
    options: QuantizeOptions,
    stage: str,
    progress: Progress,
) -> dict[str, TensorStatistics]:
    proto = finish_model(model)
    key = hashlib.sha256(proto.SerializeToString(deterministic=True) + repr(sorted(axes.items())).encode()).hexdigest()
    cache = None if options.cache is None else Path(options.cache) / f"{stage}.npz"
    return collect_statistics(Tap(proto, axes), axes, samples, cache=cache, key=key, progress=progress)


def finish_model(model: ir.Model) -> onnx.ModelProto:
    """The model as a checked file's content: constants that nothing uses left out, bodies for the operators it has.

    Raises InputError: the graph is one that no check passes, as with an opset without quantised values.
    """
    schemas.register()
    proto = ir.to_proto(model)
    used = set(list_used(proto.graph.node))
    kept = [tensor for tensor in proto.graph.initializer if tensor.name in used]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    del proto.functions[:]
    proto.functions.extend(functions.bodies(proto))
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise InputError(
            f"the graph cannot be made one of integers ({first_line(error)}).", "quantize what `export` wrote."
        ) from error
    return proto
