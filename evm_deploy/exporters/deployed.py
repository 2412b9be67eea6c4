"""What an app sees of a model: its image going in, its scores or maps coming out. The same for every target."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, nn

from evm_deploy.errors import OptionError
from evm_deploy.exporters.export_options import ExportOptions
from evm_deploy.manifest import Manifest, Preprocessing
from evm_deploy.models.network import Network, list_outputs
from evm_deploy.tasks import TASKS, IOSpec, PostProcess, Shape, Task, describe_image, find_task, infer_task

INPUT = "image"
DTYPES = {"fp32": torch.float32, "fp16": torch.float16}


@dataclass(frozen=True)
class Source:
    """What the exporter of a target works from: a network, and all that is known of the bundle to be."""

    network: Network
    manifest: Manifest
    options: ExportOptions
    images: Mapping[str, npt.NDArray[Any]]  # as the bundle's input takes them
    labels: Sequence[str] | None = None


class Deployed(nn.Module):
    """A model between a float32 NCHW image, or a uint8 NHWC one, and its outputs; `dtype` is what it computes in.

    Outputs of floats are float32. `post_process` makes those of the manifest of them. `normalise` is for pixels in
    0..255 whose mean and deviation are not folded into the model.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        post_process: PostProcess | None = None,
        uint8: bool = False,
        dtype: torch.dtype = torch.float32,
        normalise: Preprocessing | None = None,
    ) -> None:
        super().__init__()
        self.model, self.post_process, self.uint8, self.dtype = model, post_process, uint8, dtype
        self.normalise = normalise

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        """image: (B, 3, H, W) float32, or (B, H, W, 3) uint8."""
        x = image.to(self.dtype if self.normalise is None else torch.float32)
        x = x.permute(0, 3, 1, 2) if self.uint8 else x
        if self.normalise is not None:
            mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.normalise.mean, self.normalise.std))
            x = ((x / 255 - mean) / std).to(self.dtype)
        y = self.model(x)
        outputs = tuple(map(_make_float32, list_outputs(y)))
        if self.post_process is not None:
            outputs = self.post_process(outputs)
        return outputs[0] if isinstance(y, Tensor) else outputs


def _make_float32(output: Tensor) -> Tensor:
    return output.float() if output.is_floating_point() else output


def make_reference(model: nn.Module, preprocessing: Preprocessing, post_process: PostProcess | None = None) -> Deployed:
    """`model` as it was loaded, nothing folded, in float32: what an artifact has to agree with."""
    normalise = preprocessing if preprocessing.baked else None
    return Deployed(model, post_process=post_process, uint8=preprocessing.baked, normalise=normalise).eval()


def find_post_process(manifest: Manifest) -> PostProcess | None:
    """What makes the outputs of the manifest of those of the network; None where they are the same."""
    return find_task(manifest.task).post_process(manifest.outputs)


def describe_io(network: Network, options: ExportOptions) -> tuple[Task, tuple[IOSpec, ...], tuple[IOSpec, ...]]:
    """The task of the exported model, its inputs and its outputs.

    Raises OptionError: --softmax, and no scores; no --raw, and a head, or the other way round.
    """
    _check_raw(network, options.raw)
    size = ("height", "width") if options.dynamic_size else options.image_size
    batch = "batch" if options.dynamic_batch else 1
    image = describe_image(size, batch, baked=options.bake_preprocessing)
    shapes = network.output_shapes(
        options.image_size, dynamic_batch=options.dynamic_batch, dynamic_size=options.dynamic_size
    )
    task = _choose_task(options, shapes)
    names = options.output_names or network.output_names or ()
    if names and len(names) != len(shapes):
        what = f"{len(names)} names ({', '.join(names)}) are given for {len(shapes)} output{'s' * (len(shapes) > 1)}."
        raise OptionError(what, "give each output one name.")
    if options.softmax and isinstance(task.probabilities, str):
        raise OptionError(f"{task.title} {task.probabilities}.", "leave --softmax out.")
    outputs = task.describe_outputs(shapes, names, softmax=options.gives_probabilities)
    return task, (image,), outputs


def _check_raw(network: Network, raw: bool) -> None:
    if network.has_head and not raw:
        what = f"the last steps of a {network.title}, after what its head gives, are not in any bundle."
        raise OptionError(what, "add --raw for what the head gives.")
    if raw and not network.has_head:
        raise OptionError(f"{network.title} has no head of a detector or segmenter.", "leave --raw out.")


def _choose_task(options: ExportOptions, shapes: Sequence[Shape]) -> Task:
    """That of the options, if it fits the outputs; else the one that they tell."""
    if options.task is None:
        return infer_task(shapes)
    task = TASKS[options.task]
    if not task.recognises(shapes):
        found = " and ".join(f"({', '.join(map(str, shape))})" for shape in shapes)
        raise OptionError(f"outputs of shape {found} are not those of {task.title}.", "leave the task out.")
    return task
