"""Anybody's module as a network: checked, copied, and asked what an export has to know."""

import copy
import functools
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from evm_deploy.errors import CheckpointError, InputError, OptionError, first_line
from evm_deploy.manifest import CheckpointRecord
from evm_deploy.models.batch_norms import find_pairs, fold_pairs
from evm_deploy.models.families import FAMILIES
from evm_deploy.models.heads import HEADS
from evm_deploy.models.location import locate_error
from evm_deploy.models.network import Network, list_outputs, network_of_family
from evm_deploy.models.watching import call_watched
from evm_deploy.tolerances import REPEATED

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def open_module(module: nn.Module, image_size: tuple[int, int] = (224, 224), example: Any = None) -> Network:
    """`module` as a network of images of (h, w), a copy of it in eval mode. example: an input, (1, 3, h, w).

    Raises InputError: it is no network of images in float32 on the CPU, or not the same function at each call;
    CheckpointError: it gives values that are not finite.
    """
    if not isinstance(module, nn.Module):
        raise InputError(f"{type(module).__name__} is no torch.nn.Module.", "pass the module itself.")
    _check_weights(module)
    try:
        copied = copy.deepcopy(module).eval()
    except Exception as error:
        what = f"{_title(module)} cannot be copied: {first_line(error)}"
        raise InputError(f"{what.rstrip('.')}.", "keep no tensors with gradients, files or locks in it.") from error
    record = CheckpointRecord(_title(module), hash_module(copied))
    for family in (*HEADS, *FAMILIES):
        if isinstance(copied, family.network):
            return network_of_family(family, copied, record)
    image = torch.zeros(1, 3, *image_size) if example is None else _check_example(example, image_size)
    names = _check_outputs(copied, image)
    pairs = find_pairs(copied, image)
    return Network(
        module=copied,
        title=_title(module),
        record=record,
        facts={"class": _title(module), "parameters": sum(p.numel() for p in copied.parameters())},
        fold=functools.partial(fold_pairs, pairs=pairs),
        fold_preprocessing=None,
        blocks=frozenset(_list_blocks(copied)) - {conv for conv, _ in pairs},  # which give something else, once folded
        output_names=names,
        example=example,
    )


def hash_module(module: nn.Module) -> str:
    """The sha256 of what determines what `module` computes: its class's name, its weights' names, types and bytes."""
    digest = hashlib.sha256(type(module).__name__.encode())
    for name, tensor in module.state_dict().items():
        if isinstance(tensor, Tensor):
            digest.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
            digest.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _title(module: nn.Module) -> str:
    return type(module).__name__


def _check_weights(module: nn.Module) -> None:
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.device.type != "cpu":
            fix = "move it there with .cpu(), weights and all."
            raise InputError(f"{name} of {_title(module)} is on {tensor.device}, not on the CPU.", fix)
        if tensor.is_complex() or (tensor.is_floating_point() and tensor.dtype != torch.float32):
            dtype = str(tensor.dtype).removeprefix("torch.")
            fix = "convert it with .float(); --precision chooses what the exported model computes in."
            raise InputError(f"{name} of {_title(module)} is {dtype}, not float32.", fix)


def _check_example(example: Any, image_size: tuple[int, int]) -> Tensor:
    shape = (1, 3, *image_size)
    if not isinstance(example, Tensor) or example.shape != shape or example.dtype != torch.float32:
        found = f"{example.dtype} {tuple(example.shape)}" if isinstance(example, Tensor) else type(example).__name__
        raise OptionError(f"the example is {found}.", f"pass a torch.float32 tensor of shape {shape}.")
    return example


def _check_outputs(module: nn.Module, image: Tensor) -> tuple[str, ...] | None:
    """Runs it twice. Returns the names of its outputs, where they are a dictionary."""
    found = _call(module, image, call_watched)
    again = _call(module, image)
    outputs, repeated = list_outputs(found), list_outputs(again)
    for output in outputs:
        if not isinstance(output, Tensor) or not output.is_floating_point():
            kind = str(output.dtype).removeprefix("torch.") if isinstance(output, Tensor) else type(output).__name__
            fix = "let its forward return float tensors: one, a tuple of them, or a dictionary."
            raise InputError(f"{_title(module)} gives {kind}, not float tensors.", fix)
        if not output.isfinite().all():
            raise CheckpointError(f"{_title(module)} gives values that are not finite.", "check its weights.")
    if not outputs:
        raise InputError(f"{_title(module)} gives no output.", "let its forward return a float tensor.")
    if not all(a.shape == b.shape and _agree(a, b) for a, b in zip(outputs, repeated, strict=True)):
        what = f"{_title(module)} gives something else each time that it is called: it keeps something between calls."
        raise InputError(what, "let it be the same function at every call in eval mode.")
    return tuple(map(str, found)) if isinstance(found, Mapping) else None


def _agree(a: Tensor, b: Tensor) -> bool:
    return float((a - b).abs().max()) <= REPEATED * float(a.abs().max()) if a.numel() else True


def _call(module: nn.Module, image: Tensor, call: Callable[..., Any] = nn.Module.__call__) -> Any:
    try:
        with torch.no_grad():  # what a first call keeps is traced later, where PyTorch takes no inference tensors
            return call(module, image)
    except InputError:
        raise
    except Exception as error:
        reason = first_line(error) + locate_error(error, module)
        what = f"{_title(module)} does not take an image {tuple(image.shape)}: {reason}."
        fix = "pass a network of RGB images, (batch, 3, height, width), and the image size that it takes."
        raise InputError(what, fix) from error


def _list_blocks(module: nn.Module, prefix: str = "") -> list[str]:
    """The names of the parts that a network is told by: its children, with lists and sequences opened up."""
    found = []
    for name, child in module.named_children():
        opened = type(child) in CONTAINERS and any(True for _ in child.children())
        found += _list_blocks(child, f"{prefix}{name}.") if opened else [prefix + name]
    return found
