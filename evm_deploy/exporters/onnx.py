"""PyTorch to ONNX: one graph, the scan as one operator that carries its body with it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import torch

from evm_deploy.exporters.deployed import DTYPES, INPUT, FittedSteps, Source, find_last_steps
from evm_deploy.exporters.export_options import ExportOptions
from evm_deploy.exporters.fitting import FITTED, prepend_fitting
from evm_deploy.exporters.trace import deploy, explain_operation, quiet, trace
from evm_deploy.graph import functions
from evm_deploy.graph.blocks import NETWORK
from evm_deploy.graph.inlining import inline_bodies
from evm_deploy.graph.passes import run_passes
from evm_deploy.graph.passes.name_blocks import name_blocks
from evm_deploy.graph.schemas import translations
from evm_deploy.manifest import Manifest
from evm_deploy.models.network import Network

IR_VERSION = 10  # the newest that onnxruntime 1.20 reads
# Pixels of a side that may be any: from less on, PyTorch guards against maps of one row, and has to trace twice; traced
# with less, the rows of such maps would be fixed.
TRACED_FROM = 64
HEAD_TRACED_FROM = 1152  # the same of a head: no map of its pyramid may have one row
PIXELS = 96, 128  # of an original image that is traced with


def write(source: Source, path: Path, progress: Callable[[str], None]) -> dict[str, Any]:
    """Exports the model and writes it at `path`, weights included."""
    path.write_bytes(export(source.network, source.manifest, source.options).SerializeToString())
    return {}


def export(network: Network, manifest: Manifest, options: ExportOptions) -> onnx.ModelProto:
    """The ONNX model of `network`, checked by `onnx.checker`. Raises InputError: it does what ONNX cannot express."""
    steps, axes = manifest.preprocessing, _dynamic_axes(options)
    fitted = steps.baked and find_last_steps(network, manifest) is not None
    uint8 = steps.baked and not fitted
    deployed = deploy(network, manifest, uint8=uint8, dtype=DTYPES[options.precision], parts="both")
    inputs = {INPUT: (_example(network, manifest, options, uint8=uint8), axes)}
    if fitted:
        sides = [torch.export.Dim(f"fitted_{side}", min=TRACED_FROM) for side in ("height", "width")]
        pixels = torch.zeros(1, *PIXELS, 3, dtype=torch.uint8)
        inputs = {FITTED: (inputs[INPUT][0], {2: sides[0], 3: sides[1]}), INPUT: (pixels, axes)}
    images, shapes = zip(*inputs.values(), strict=True)
    traced = trace(FittedSteps(deployed) if fitted else deployed, images, shapes, network.title)
    proto = translate(
        traced,
        network.title,
        input_names=list(inputs),
        output_names=[*(spec.name for spec in manifest.model_outputs), *list_given(network, manifest)],
        dynamic_shapes=shapes,
        opset_version=options.opset,
    )
    name_blocks(proto, {NETWORK + block for block in network.blocks})  # before the passes take out what it reads
    if fitted:
        prepend_fitting(proto, INPUT, steps)
    finished = finish(proto, inlined=manifest.scan_form == "inlined")
    del finished.graph.output[len(manifest.model_outputs) :]  # the names of these values stay
    return finished


def finish(proto: onnx.ModelProto, *, inlined: bool = False) -> onnx.ModelProto:
    """What the exporter of PyTorch gives, with our passes, the bodies of our operators, and checked."""
    run_passes(proto)
    proto.functions.extend(functions.bodies(proto))
    proto.ir_version = IR_VERSION
    if inlined:
        proto = inline_bodies(proto)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def translate(traced: torch.export.ExportedProgram, title: str, **options: Any) -> onnx.ModelProto:
    """The program by the exporter of PyTorch, whose options these are.

    Raises InputError: an operation that ONNX has not.
    """
    try:
        with quiet():
            program = torch.onnx.export(
                traced, custom_translation_table=translations(), dynamo=True, verbose=False, **options
            )
    except torch.onnx.OnnxExporterError as error:
        raise explain_operation(error, traced, title) from error
    assert program is not None  # it is None for the older exporter only
    proto: onnx.ModelProto = program.model_proto
    return proto


def list_given(network: Network, manifest: Manifest) -> list[str]:
    """The names of the values that the last steps in the graph are made of; none where it has no last steps."""
    if find_last_steps(network, manifest) is None or manifest.last_steps is not None:
        return []
    return [f"given.{name}" for name in network.output_names or ()]


def _example(network: Network, manifest: Manifest, options: ExportOptions, *, uint8: bool) -> torch.Tensor:
    """An image to trace with; a batch that is to stay dynamic is not 1 there, which would be taken as fixed."""
    h, w = options.image_size
    least = TRACED_FROM if network.last_steps is None else HEAD_TRACED_FROM
    size = (max(h, least), max(w, least)) if options.dynamic_size else (h, w)
    image = network.make_image(2 if options.dynamic_batch else 1, size)
    preprocessing = manifest.preprocessing
    if not uint8:
        return image
    if network.example is None:
        return image.permute(0, 2, 3, 1).to(torch.uint8)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    return ((image * std + mean) * 255).round().clamp(0, 255).permute(0, 2, 3, 1).to(torch.uint8)


def _dynamic_axes(options: ExportOptions) -> dict[int, torch.export.Dim]:
    axes = {}
    if options.dynamic_batch:
        axes[0] = torch.export.Dim("batch", min=1)
    if options.dynamic_size:
        rows = 1 if options.bake_preprocessing else 2
        axes |= {rows + i: torch.export.Dim(side, min=TRACED_FROM) for i, side in enumerate(("height", "width"))}
    return axes
