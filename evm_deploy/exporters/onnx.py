"""PyTorch to ONNX: one graph, the scan as one operator that carries its body with it."""

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import onnx.inliner
import torch

from evm_deploy.exporters.deployed import DTYPES, INPUT, Deployed, Source, find_post_process
from evm_deploy.exporters.export_options import ExportOptions
from evm_deploy.graph import functions
from evm_deploy.graph.blocks import NETWORK
from evm_deploy.graph.passes import run_passes
from evm_deploy.graph.passes.name_blocks import name_blocks
from evm_deploy.graph.schemas import translations
from evm_deploy.manifest import SMALLEST_IMAGE, Manifest
from evm_deploy.models.network import Network

IR_VERSION = 10  # the newest that onnxruntime 1.20 reads


def write(source: Source, path: Path, progress: Callable[[str], None]) -> dict[str, Any]:
    """Exports the model and writes it at `path`, weights included."""
    path.write_bytes(export(source.network, source.manifest, source.options).SerializeToString())
    return {}


def export(network: Network, manifest: Manifest, options: ExportOptions) -> onnx.ModelProto:
    """The ONNX model of `network`, checked by `onnx.checker`."""
    with quiet():
        program = torch.onnx.export(
            deployed(network, manifest, options),
            (_example(options),),
            input_names=[INPUT],
            output_names=[spec.name for spec in manifest.outputs],
            dynamic_shapes=(_dynamic_axes(options),),
            opset_version=options.opset,
            custom_translation_table=translations(),
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # it is None for the older exporter only
    proto = program.model_proto
    name_blocks(proto, {NETWORK + block for block in network.blocks})  # before the passes take out what it reads
    run_passes(proto)
    proto.functions.extend(functions.bodies(proto))
    proto.ir_version = IR_VERSION
    if options.scan_form == "inlined":
        proto = onnx.inliner.inline_local_functions(proto)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def deployed(network: Network, manifest: Manifest, options: ExportOptions) -> Deployed:
    """The module that is traced: everything exact is folded, and it computes in the precision asked for."""
    preprocessing, folded = manifest.preprocessing, network.fold(network.module)
    if preprocessing.baked:
        folded = network.fold_preprocessing(folded, preprocessing.mean, preprocessing.std)
    dtype = DTYPES[options.precision]
    post_process = find_post_process(manifest)
    return Deployed(folded.to(dtype), post_process=post_process, uint8=preprocessing.baked, dtype=dtype).eval()


def _example(options: ExportOptions) -> torch.Tensor:
    """An image to trace with; a batch that is to stay dynamic is not 1 there, which would be taken as fixed."""
    h, w = options.image_size
    batch = 2 if options.dynamic_batch else 1
    if options.bake_preprocessing:
        return torch.zeros(batch, h, w, 3, dtype=torch.uint8)
    return torch.zeros(batch, 3, h, w)


def _dynamic_axes(options: ExportOptions) -> dict[int, torch.export.Dim]:
    axes = {}
    if options.dynamic_batch:
        axes[0] = torch.export.Dim("batch", min=1)
    if options.dynamic_size:
        rows = 1 if options.bake_preprocessing else 2
        axes |= {rows + i: torch.export.Dim(side, min=SMALLEST_IMAGE) for i, side in enumerate(("height", "width"))}
    return axes


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The exporter warns of libraries that a model like ours does not use, and of PyTorch's own internals."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
