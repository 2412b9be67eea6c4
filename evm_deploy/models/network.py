"""What is exported, whatever it came from: a module, where its weights come from, and how it is simplified."""

import copy
import hashlib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evm_deploy.jsontext import utf8_name
from evm_deploy.manifest import CheckpointRecord
from evm_deploy.models.checkpoint import read_checkpoint
from evm_deploy.models.families import FAMILIES
from evm_deploy.models.family import Family
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
    fold_preprocessing: FoldPreprocessing
    blocks: frozenset[str]  # the modules that errors and profiles are told by
    output_names: tuple[str, ...] | None = None  # None: the task's
    scan_values: tuple[str, ...] = ()  # how the names of folded values end that float16 need not hold

    def output_shapes(
        self, image_size: tuple[int, int], *, dynamic_batch: bool = False, dynamic_size: bool = False
    ) -> list[Shape]:
        """The shape of each output for images of (h, w); lengths that are chosen at run time have names."""
        h, w = image_size
        shapes: list[Shape] = [tuple(output.shape) for output in self.run(torch.zeros(1, 3, h, w))]
        grown = {"height": (h + GROWTH, w), "width": (h, w + GROWTH)} if dynamic_size else {}
        for side, size in grown.items():
            others = [output.shape for output in self.run(torch.zeros(1, 3, *size))]
            shapes = [
                _name_lengths(shape, other, f"{side}{self._number(i)}")
                for i, (shape, other) in enumerate(zip(shapes, others, strict=True))
            ]
        return [("batch", *shape[1:]) for shape in shapes] if dynamic_batch else shapes

    def _number(self, output: int) -> str:
        """What tells the lengths of this output from those of others: the number in its name, or its place."""
        found = re.search(r"\d+$", self.output_names[output]) if self.output_names else None
        return found[0] if found else str(output)

    def run(self, image: Tensor) -> tuple[Tensor, ...]:
        """The outputs for image (B, 3, H, W)."""
        with torch.inference_mode():
            found = self.module(image)
        return tuple(found) if isinstance(found, (tuple, list)) else (found,)


def open_checkpoint(path: str | os.PathLike[str], *, key: str | None = None, scan: str | None = None) -> Network:
    """The network in the checkpoint at `path`. Raises what `read_checkpoint` does."""
    checkpoint = read_checkpoint(path, key=key, scan=scan)
    record = CheckpointRecord(utf8_name(Path(path).name), checkpoint.sha256, checkpoint.source_key)
    return network_of_family(checkpoint.family, checkpoint.build(), record)


def open_module(module: nn.Module) -> Network:
    """The network that `module`, of one of the families, is."""
    family = next(family for family in FAMILIES if isinstance(module, family.network))
    copied = copy.deepcopy(module).eval()
    return network_of_family(family, copied, CheckpointRecord(type(module).__name__, hash_module(copied)))


def hash_module(module: nn.Module) -> str:
    """The sha256 of what determines what `module` computes: its class's name, its weights' names, types and bytes."""
    digest = hashlib.sha256(type(module).__name__.encode())
    for name, tensor in module.state_dict().items():
        digest.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def network_of_family(family: Family, module: Any, record: CheckpointRecord) -> Network:
    """`module` is a network of `family`, in eval mode."""
    names = family.name_outputs(module.config)
    return Network(
        module=module,
        title=family.title,
        record=record,
        facts=asdict(module.config),
        fold=family.fold,
        fold_preprocessing=family.fold_preprocessing,
        blocks=frozenset(name for name, _ in module.named_modules() if family.blocks.fullmatch(name)),
        output_names=tuple(names) if names else None,
        scan_values=family.scan_values,
    )


def _name_lengths(shape: Shape, other: Sequence[int], name: str) -> Shape:
    """`shape` with `name` in the place of the lengths that `other` has otherwise."""
    pairs = zip(shape, other, strict=True)
    return tuple(name if isinstance(length, int) and length != now else length for length, now in pairs)
