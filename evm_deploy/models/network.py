"""What is exported, whatever it came from: a module, where its weights come from, and how it is simplified."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evm_deploy.errors import EvmDeployError, InputError, first_line
from evm_deploy.jsontext import utf8_name
from evm_deploy.manifest import CheckpointRecord
from evm_deploy.models.checkpoint import read_checkpoint
from evm_deploy.models.family import Family
from evm_deploy.models.last_steps import LastSteps
from evm_deploy.models.location import locate_error
from evm_deploy.models.recorded.read import RecordedPreprocessing
from evm_deploy.tasks import Shape

GROWTH = 64  # pixels by which an image is made larger to see which lengths depend on its size
FoldPreprocessing = Callable[[nn.Module, Sequence[float], Sequence[float]], nn.Module]


@dataclass(frozen=True)
class Network:
    """A network of images, float32, on the CPU, in eval mode: (B, 3, H, W) -> a tensor or a tuple of tensors.

    `fold` and `fold_preprocessing` are those of `Family`; both work on a copy.
    """

    module: nn.Module
    title: str
    record: CheckpointRecord
    facts: dict[str, Any]  # what the manifest says of the model
    fold: Callable[[nn.Module], nn.Module]
    fold_preprocessing: FoldPreprocessing | None  # None: the graph normalises
    blocks: frozenset[str]  # the modules that errors and profiles are told by
    output_names: tuple[str, ...] | None = None  # None: the task's
    example: Tensor | None = None  # (1, 3, h, w), where zeros will not do to try it
    recorded: RecordedPreprocessing = field(default_factory=RecordedPreprocessing)  # of a module: nothing
    class_names: tuple[str, ...] | None = None  # as the checkpoint names them
    last_steps: LastSteps | None = None  # after the head of a detector or segmenter
    notes: tuple[str, ...] = ()  # what has to be said of where it came from
    scan_values: tuple[str, ...] = ()  # how the names of folded values end that float16 need not hold

    def output_shapes(
        self, image_size: tuple[int, int], *, dynamic_batch: bool = False, dynamic_size: bool = False
    ) -> list[Shape]:
        """The shape of each output for images of (h, w); lengths that are chosen at run time have names.

        Raises InputError: it takes no such images, or only of one size or number where others are wanted.
        """
        h, w = image_size
        shapes: list[Shape] = self._run_on(1, image_size, "choose another --image-size.")
        grown = {"height": (h + GROWTH, w), "width": (h, w + GROWTH)} if dynamic_size else {}
        for side, size in grown.items():
            others = self._run_on(1, size, "leave --dynamic-size out.")
            shapes = [
                _name_lengths(shape, other, f"{side}{self._number(i)}")
                for i, (shape, other) in enumerate(zip(shapes, others, strict=True))
            ]
        if not dynamic_batch:
            return shapes
        if any(shape[0] != 2 for shape in self._run_on(2, image_size, "leave --dynamic-batch out.")):
            what = f"an output of {self.title} has not the number of images as its first length."
            raise InputError(what, "leave --dynamic-batch out.")
        return [("batch", *shape[1:]) for shape in shapes]

    def _number(self, output: int) -> str:
        """What tells the lengths of this output from those of others: the number in its name, or its place."""
        found = re.search(r"\d+$", self.output_names[output]) if self.output_names else None
        return found[0] if found else str(output)

    def _run_on(self, batch: int, size: tuple[int, int], fix: str) -> list[Shape]:
        """The shapes of the outputs for so many images of this size."""
        try:
            return [tuple(output.shape) for output in self.run(self.make_image(batch, size))]
        except EvmDeployError:
            raise
        except Exception as error:
            what = f"{self.title} does not take {batch} image{'s' * (batch > 1)} of {size[0]}x{size[1]}"
            reason = first_line(error) + locate_error(error, self.module)
            raise InputError(f"{what}: {reason}.", fix) from error

    def make_image(self, batch: int, size: tuple[int, int]) -> Tensor:
        """An input to try and to trace with, (batch, 3, h, w): zeros, or the example."""
        if self.example is None:
            return torch.zeros(batch, 3, *size)
        image = self.example[:1].expand(batch, -1, -1, -1)
        return image.clone() if image.shape[2:] == size else F.interpolate(image, size)

    def run(self, image: Tensor) -> tuple[Tensor, ...]:
        """The outputs for image (B, 3, H, W)."""
        with torch.no_grad():
            return list_outputs(self.module(image))


def list_outputs(found: Any) -> tuple[Any, ...]:
    """What a forward returned, one by one: a tensor, a tuple or list of them, or a dictionary's values."""
    if isinstance(found, Mapping):
        return tuple(found.values())
    return tuple(found) if isinstance(found, (tuple, list)) else (found,)


def open_checkpoint(path: str | os.PathLike[str], *, key: str | None = None, scan: str | None = None) -> Network:
    """The network in the checkpoint at `path`. Raises what `read_checkpoint` does."""
    checkpoint = read_checkpoint(path, key=key, scan=scan)
    record = CheckpointRecord(utf8_name(Path(path).name).replace("\\", "%5C"), checkpoint.sha256, checkpoint.source_key)
    notes = tuple(filter(None, (checkpoint.describe_ignored(), checkpoint.remark)))
    network = network_of_family(checkpoint.family, checkpoint.build(), record)
    return replace(network, recorded=checkpoint.recorded, class_names=checkpoint.class_names, notes=notes)


def network_of_family(family: Family, module: Any, record: CheckpointRecord) -> Network:
    """`module` is a network of `family`, in eval mode."""
    names = family.name_outputs(module.config)
    return Network(
        module=module,
        title=family.title,
        record=record,
        facts={"family": family.title, **asdict(module.config)},
        fold=family.fold,
        fold_preprocessing=family.fold_preprocessing,
        blocks=frozenset(name for name, _ in module.named_modules() if family.blocks.fullmatch(name)),
        output_names=tuple(names) if names else None,
        last_steps=family.last_steps,
        scan_values=family.scan_values,
    )


def find_scan(facts: Mapping[str, Any]) -> str | None:
    """The scan of a network, or of the backbone before its head, by what its manifest says."""
    backbone = facts.get("backbone")
    held = facts if "scan" in facts or not isinstance(backbone, Mapping) else backbone
    scan = held.get("scan")
    return scan if isinstance(scan, str) else None


def _name_lengths(shape: Shape, other: Shape, name: str) -> Shape:
    """`shape` with `name` in the place of the lengths that `other` has otherwise."""
    pairs = zip(shape, other, strict=True)
    return tuple(name if isinstance(length, int) and length != now else length for length, now in pairs)
