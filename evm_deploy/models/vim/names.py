"""The names of a checkpoint's tensors, and what their shapes say about the network."""

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from evm_deploy.models.recorded.read import read_recorded
from evm_deploy.models.vim.config import VimConfig, infer_stride

STEM = re.compile(r"^((?:.*\.)?)layers\.0\.mixer\.in_proj\.weight$")
# What the published networks do not have, and what it is: the mathematics of these is another.
OTHERS = (
    (re.compile(r"cls_token_(head|tail)$"), "two class tokens"),
    (re.compile(r"rope"), "rotary position embeddings"),
    (re.compile(r"layers\.\d+\.(norm\.bias|mixer\.norm\.bias)$|norm_f\.bias$"), "LayerNorm in the place of RMSNorm"),
    (re.compile(r"(^|\.)gamma(_\d)?$"), "a layer scale"),
)
FIRST = "layers.0.mixer."


def rename(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under their released names, which they have."""
    return tensors


def explain(tensors: Mapping[str, Tensor]) -> str | None:
    """What tells a network that is almost one of these from them, as a sentence goes on: "it has two class tokens"."""
    found = (f"it has {what} ({name})" for pattern, what in OTHERS for name in tensors if pattern.search(name))
    said = next(found, None)
    if said is None and f"{FIRST}conv1d.weight" in tensors and f"{FIRST}conv1d_b.weight" not in tensors:
        return "its blocks have no backward branch of their own (conv1d_b), which only bimamba v2 has"
    return said


def infer_config(tensors: dict[str, Tensor], scan: str | None) -> VimConfig | list[str]:
    """The configuration that the shapes say, which may not fit every tensor; or what is missing to say any."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    ranks = {"patch_embed.proj.weight": 4, "pos_embed": 3, "head.weight": 2, f"{FIRST}A_log": 2}
    ranks |= {f"{FIRST}conv1d.weight": 3, f"{FIRST}dt_proj.weight": 2}
    missing = [name for name, rank in ranks.items() if len(shapes.get(name, ())) != rank or 0 in shapes[name]]
    if missing:
        return missing
    D, N = shapes[f"{FIRST}A_log"]
    C, patch = shapes["patch_embed.proj.weight"][0], shapes["patch_embed.proj.weight"][2]
    side = math.isqrt(shapes["pos_embed"][1] - 1)  # one position is that of the class token
    config = VimConfig(
        dim=C,
        depth=len({match[1] for name in shapes if (match := re.match(r"layers\.(\d{1,4})\.", name))}),
        grid=(side, side),
        stride=infer_stride(side, patch),
        patch=patch,
        d_state=N,
        d_conv=shapes[f"{FIRST}conv1d.weight"][2],
        d_inner=D,
        dt_rank=shapes[f"{FIRST}dt_proj.weight"][1],
        num_classes=shapes["head.weight"][0],
    )
    usual = replace(config, d_inner=None, dt_rank=None)  # equal networks compare equal
    same = (usual.channels, usual.rank) == (config.channels, config.rank)
    return usual if same else config


def apply_image_size(config: VimConfig, content: Any) -> VimConfig:
    """The configuration with the stride at which its patches cover images of the size that the file states."""
    size = read_recorded(content).image_size
    possible = (replace(config, stride=stride) for stride in range(1, config.patch + 1))
    return next((one for one in possible if one.image_size == size), config)
