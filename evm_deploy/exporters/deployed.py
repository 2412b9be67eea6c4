"""What an app sees of a model: its image going in, its scores or maps coming out. The same for every target."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy.typing as npt
import torch
from torch import Tensor, nn

from evm_deploy.errors import OptionError
from evm_deploy.exporters.export_options import ExportOptions
from evm_deploy.manifest import Manifest, Preprocessing, SeparateGraph
from evm_deploy.models.last_steps import LastSteps
from evm_deploy.models.network import Network, list_outputs
from evm_deploy.options import spell_option
from evm_deploy.preprocessing import fit
from evm_deploy.targets import TARGETS
from evm_deploy.tasks import TASKS, IOSpec, PostProcess, Shape, Task, describe_image, find_task, infer_task
from evm_deploy.tasks.features import FEATURES

INPUT, LAST_STEPS = "image", "last_steps.onnx"
Parts = Literal["results", "given", "both"]
LACKING = ("dynamic_batch", "more_sizes")  # options of models with last steps
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
    0..255 whose mean and deviation are not folded into the model. `last_steps` follow a model that is a head, in
    float32; `parts` of them are what it gives: the results, what they are made of, or one after the other.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        post_process: PostProcess | None = None,
        uint8: bool = False,
        dtype: torch.dtype = torch.float32,
        normalise: Preprocessing | None = None,
        last_steps: LastSteps | None = None,
        parts: Parts = "results",
    ) -> None:
        super().__init__()
        self.model, self.post_process, self.uint8, self.dtype = model, post_process, uint8, dtype
        self.normalise, self.last_steps, self.parts = normalise, last_steps, parts

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        """image: (B, 3, H, W) float32, or (B, H, W, 3) uint8."""
        if self.last_steps is not None:
            return self.run_fitted(*self._fit(image))
        y = self.model(self._prepare(image, self.dtype))
        outputs = tuple(map(_make_float32, list_outputs(y)))
        if self.post_process is not None:
            outputs = self.post_process(outputs)
        return outputs[0] if isinstance(y, Tensor) else outputs

    def finish(self, image: Tensor, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The results of an image, as `forward` takes it, and of what the head gave for it, float32."""
        assert self.last_steps is not None
        return self.last_steps.finish(self.model, given, *self._fit(image))

    def run_fitted(self, x: Tensor, original: tuple[int, int] | None) -> tuple[Tensor, ...]:
        """The same of an image (1, 3, h, w), normalised, that was resized from (H, W) `original`, where it was."""
        steps = self.last_steps
        assert steps is not None
        given = tuple(map(_make_float32, steps.give(self.model, x.to(self.dtype))))
        if self.parts == "given":
            return given
        results = steps.finish(self.model, given, x, original)
        return results if self.parts == "results" else (*results, *given)

    def _fit(self, image: Tensor) -> tuple[Tensor, tuple[int, int] | None]:
        if self.normalise is None:
            return self._prepare(image, torch.float32), None
        _, h, w, _ = image.shape
        return torch.from_numpy(fit(image[0].numpy(), self.normalise)), (h, w)

    def _prepare(self, image: Tensor, dtype: torch.dtype) -> Tensor:
        """The image as the model takes it, (B, 3, H, W)."""
        x = image.to(dtype if self.normalise is None else torch.float32)
        x = x.permute(0, 3, 1, 2) if self.uint8 else x
        if self.normalise is None:
            return x
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.normalise.mean, self.normalise.std))
        return ((x / 255 - mean) / std).to(dtype)


class FittedSteps(nn.Module):
    """A model with last steps that takes an image twice: normalised (1, 3, h, w), and its pixels uint8 (1, H, W, 3)
    before it was resized, for their number.
    """

    def __init__(self, deployed: Deployed) -> None:
        super().__init__()
        self.model, self.deployed = deployed.model, deployed

    def forward(self, fitted: Tensor, pixels: Tensor) -> tuple[Tensor, ...]:
        """In pixels of the second."""
        _, h, w, _ = pixels.shape
        return self.deployed.run_fitted(fitted, (h, w))


class SeparateSteps(nn.Module):
    """What follows a model, alone: the results of a float32 image (1, 3, H, W) and what the model gives for it."""

    def __init__(self, model: nn.Module, last_steps: LastSteps) -> None:
        super().__init__()
        self.model, self.last_steps = model, last_steps

    def forward(self, image: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
        """In pixels of the image."""
        return self.last_steps.finish(self.model, given, image)


def _make_float32(output: Tensor) -> Tensor:
    return output.float() if output.is_floating_point() else output


def make_reference(model: nn.Module, preprocessing: Preprocessing, post_process: PostProcess | None = None) -> Deployed:
    """`model` as it was loaded, nothing folded, in float32: what an artifact has to agree with."""
    normalise = preprocessing if preprocessing.baked else None
    return Deployed(model, post_process=post_process, uint8=preprocessing.baked, normalise=normalise).eval()


def build_reference(network: Network, manifest: Manifest, *, parts: Parts = "results") -> Deployed:
    """The same of a network, with the outputs of the manifest, or other `parts` of what it gives, if it has a head."""
    steps = find_last_steps(network, manifest)
    reference = make_reference(network.module, manifest.preprocessing, find_post_process(manifest))
    reference.last_steps, reference.parts = steps, parts
    return reference


def find_last_steps(network: Network, manifest: Manifest) -> LastSteps | None:
    """What follows the head in a model with this manifest; None: it has no head, or gives what the head gives."""
    steps = network.last_steps
    return steps if steps is not None and find_task(manifest.task) is TASKS[steps.task] else None


def find_post_process(manifest: Manifest) -> PostProcess | None:
    """What makes the outputs of the manifest of those of the network; None where they are the same."""
    return find_task(manifest.task).post_process(manifest.outputs)


def describe_io(network: Network, options: ExportOptions) -> tuple[Task, tuple[IOSpec, ...], tuple[IOSpec, ...]]:
    """The task of the exported model, its inputs and its outputs.

    Raises OptionError: --softmax, and no scores; --raw, and no head; what results of a head cannot be given with.
    """
    steps = choose_last_steps(network, options)
    size = ("height", "width") if options.dynamic_size else options.image_size
    batch = "batch" if options.dynamic_batch else 1
    image = describe_image(size, batch, baked=options.bake_preprocessing)
    if steps is None:
        shapes = network.output_shapes(
            options.image_size, dynamic_batch=options.dynamic_batch, dynamic_size=options.dynamic_size
        )
        task, own_names = _choose_task(options, shapes), network.output_names or ()
    else:
        shapes, task, own_names = steps.list_shapes(size), TASKS[steps.task], ()
    names = options.output_names or own_names
    if names and len(names) != len(shapes):
        what = f"{len(names)} names ({', '.join(names)}) are given for {len(shapes)} output{'s' * (len(shapes) > 1)}."
        raise OptionError(what, "give each output one name.")
    if options.softmax and isinstance(task.probabilities, str):
        raise OptionError(f"{task.title} {task.probabilities}.", "leave --softmax out.")
    outputs = task.describe_outputs(shapes, names, softmax=options.gives_probabilities)
    return task, (image,), outputs


def describe_last_steps(network: Network, options: ExportOptions) -> SeparateGraph | None:
    """The graph that follows the model, for targets that lack the operators. Raises what `describe_io` does."""
    steps = choose_last_steps(network, options)
    if steps is None or not steps.find_any_number or TARGETS[options.target].finds_any_number:
        return None
    if options.dynamic_size:
        what = f"what follows {TASKS[steps.task].title} is a graph of one size beside models for {options.target}."
        raise OptionError(what, "leave --dynamic-size out, or add --raw for what the head gives.")
    h, w = (side + -side % steps.multiple for side in options.image_size)
    return SeparateGraph(
        LAST_STEPS, FEATURES.describe_outputs(network.output_shapes((h, w)), network.output_names or ())
    )


def choose_last_steps(network: Network, options: ExportOptions) -> LastSteps | None:
    """Those of the network's head, unless what it gives is wanted. Raises OptionError: they cannot be given so."""
    if network.last_steps is None:
        if options.raw:
            raise OptionError(f"{network.title} has no head of a detector or segmenter.", "leave --raw out.")
        return None
    if options.raw:
        return None
    task = TASKS[network.last_steps.task]
    if options.task is not None and TASKS[options.task] is not task:
        raise OptionError(
            f"{network.title} is {task.title}.", "leave the task out, or add --raw for what its head gives."
        )
    for name in LACKING:
        if getattr(options, name) != ExportOptions.__dataclass_fields__[name].default:
            what = f"{task.title} is not written with {spell_option(ExportOptions, name)}."
            raise OptionError(what, "leave it out, or add --raw for what the head gives.")
    if options.bake_preprocessing and not (options.dynamic_size and TARGETS[options.target].finds_any_number):
        what = f"the preprocessing of {task.title} is baked into ONNX graphs for images of any size alone."
        raise OptionError(what, "add --dynamic-size for ONNX, or leave --bake-preprocessing out.")
    return network.last_steps


def _choose_task(options: ExportOptions, shapes: Sequence[Shape]) -> Task:
    """That of the options, if it fits the outputs; else the one that they tell."""
    if options.task is None:
        return infer_task(shapes)
    task = TASKS[options.task]
    if not task.recognises(shapes):
        found = " and ".join(f"({', '.join(map(str, shape))})" for shape in shapes)
        raise OptionError(f"outputs of shape {found} are not those of {task.title}.", "leave the task out.")
    return task
