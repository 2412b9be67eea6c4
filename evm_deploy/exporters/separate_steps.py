"""What follows a model whose target lacks the operators for it, as a small ONNX graph of standard operators."""

import onnx
import torch

from evm_deploy.exporters.deployed import SeparateSteps, Source
from evm_deploy.exporters.onnx import finish, translate
from evm_deploy.exporters.trace import trace_module


def export(source: Source) -> onnx.ModelProto:
    """The graph from the image and the outputs of the model, all float32, to the outputs of the manifest."""
    network, manifest = source.network, source.manifest
    steps, graph = network.last_steps, manifest.last_steps
    assert steps is not None
    assert graph is not None
    image = network.make_image(1, manifest.preprocessing.image_size)
    given = [torch.zeros(spec.shape) for spec in graph.given]  # type: ignore[arg-type]  # the size is fixed
    module = SeparateSteps(network.fold(network.module), steps).eval()
    proto = translate(
        trace_module(module, (image, *given), network.title),
        network.title,
        input_names=[spec.name for spec in (*manifest.inputs, *graph.given)],
        output_names=[spec.name for spec in manifest.outputs],
        opset_version=source.options.opset,
    )
    return finish(proto)
