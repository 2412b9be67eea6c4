"""Finds the block where an artifact first differs from PyTorch."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor, nn

from evm_deploy.graph.blocks import output_of
from evm_deploy.runtimes.onnxruntime import OnnxRunner
from evm_deploy.tasks.agreement import compare


def find_divergent_block(
    path: Path, model: nn.Module, image: npt.NDArray[np.generic], tolerance: float, *, library: bool
) -> str | None:
    """The first block of `model` whose output in the file differs by more than `tolerance`, with its error.

    `model` is the module that was exported (`exporters.onnx.Deployed`); None when every named block agrees.
    """
    proto = onnx.load(path)
    named = {name for node in proto.graph.node for name in node.output}
    wanted = _record_outputs(model, image)
    present = [name for name in wanted if output_of(name) in named]
    proto.graph.output.extend(onnx.helper.make_empty_tensor_value_info(output_of(name)) for name in present)
    outputs = len(proto.graph.output)
    with OnnxRunner(proto.SerializeToString(), library=library) as runner:
        found = dict(zip(present, runner.run(image)[outputs - len(present) :], strict=True))
    for name in present:
        if found[name].shape != tuple(wanted[name].shape):
            return f"{name} (shape {found[name].shape}, not {tuple(wanted[name].shape)})"
        agreement = compare(found[name].astype(np.float32), wanted[name].float().numpy(), scores=False)
        if agreement.relative > tolerance:
            return f"{name} (relative error {agreement.relative:.1e})"
    return None


def _record_outputs(model: nn.Module, image: npt.NDArray[np.generic]) -> dict[str, Tensor]:
    """Runs the model and records the output of each module, in the order in which they finished."""
    seen: dict[str, Tensor] = {}
    hooks = []
    for name, module in model.named_modules():

        def keep(_: nn.Module, __: object, output: object, name: str = name) -> None:
            if isinstance(output, Tensor):
                seen[name] = output

        hooks.append(module.register_forward_hook(keep))
    try:
        with torch.inference_mode():
            model(torch.from_numpy(image))
    finally:
        for hook in hooks:
            hook.remove()
    return seen
