"""The names that a checkpoint's tensors have had, and what their shapes say about the network."""

import dataclasses
import math
import re

from torch import Tensor

from evm_deploy.models.efficientvmamba.config import SCANS, ModelConfig
from evm_deploy.models.efficientvmamba.network import PATCH
from evm_deploy.models.layers.names import explain_ends


def explain(tensors: dict[str, Tensor]) -> str | None:
    """What tells a network that is almost one of these from them, as a sentence goes on: "its stem ..."."""
    stem = tuple(tensors["patch_embed.0.weight"].shape)
    if len(stem) == 4 and stem[1] == 3 and stem[2:] != (PATCH, PATCH):
        return f"its patches are of {stem[2]}x{stem[3]} pixels, not of {PATCH}x{PATCH}"
    return explain_ends(tensors)


def infer_config(tensors: dict[str, Tensor], scan: str | None) -> ModelConfig | list[str]:
    """The configuration that the shapes say, which may not fit every tensor; or what is missing to say any."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    found = {int(match[1]) for name in shapes if (match := re.match(r"layers\.(\d{1,4})\.", name))}
    stages = {i: _infer_stage(shapes, i) for i in sorted(found or {0})}
    known = [stage for stage in stages.values() if stage is not None]
    missing = [f"layers.{i}" for i, stage in stages.items() if stage is None]
    if "patch_embed.0.weight" not in shapes or missing:
        return ["patch_embed.0.weight", *missing] if "patch_embed.0.weight" not in shapes else missing
    scanned = [stage for stage in known if stage.kind == "evss"]
    outputs = tuple(i for i in range(len(known)) if f"outnorm{i}.weight" in shapes)
    head = shapes.get("classifier.head.weight")
    config = ModelConfig(
        dims=tuple(stage.dim for stage in known),
        depths=tuple(stage.depth for stage in known),
        d_state=scanned[0].d_state if scanned else 16,
        dt_rank=tuple(stage.rank for stage in known),
        step=math.isqrt(scanned[0].directions) if scanned and scan != "ss2d" else 2,
        num_classes=None if outputs and not head else (head and head[0]) or 1000,
        blocks=tuple(stage.kind for stage in known),
        scan=scan or SCANS[0],
        conv_branch=not scanned or any(".conv_branch." in name for name in shapes),
        out_indices=outputs if outputs and not head else None,
    )
    return _without_defaults(config)


def _without_defaults(config: ModelConfig) -> ModelConfig:
    """`config` with the fields left out that say what their defaults say, so that equal networks compare equal."""
    usual = dataclasses.replace(config, dt_rank=None)
    if all(usual.rank(i) == config.rank(i) for i in range(len(config.dims))):
        config = usual
    if config.out_indices == tuple(range(len(config.dims))):
        config = dataclasses.replace(config, out_indices=None)
    return config


@dataclasses.dataclass(frozen=True)
class _Stage:
    kind: str
    dim: int
    depth: int
    rank: int
    d_state: int = 16
    directions: int = 4


def _infer_stage(shapes: dict[str, tuple[int, ...]], i: int) -> _Stage | None:
    def first(name: str, rank: int) -> tuple[int, ...] | None:
        """The shape of `name` in the first block of stage i that has it with `rank` dimensions."""
        pattern = re.compile(rf"layers\.{i}\.{name}$")
        return next((s for key, s in shapes.items() if pattern.match(key) and len(s) == rank and min(s) > 0), None)

    def depth(pattern: str) -> int:
        return len({match[1] for key in shapes if (match := re.match(rf"layers\.{i}\.{pattern}", key))})

    dt, A = first(r"blocks\.\d+\.op\.dt_projs_weight", 3), first(r"blocks\.\d+\.op\.A_logs", 2)
    if dt and A:
        return _Stage("evss", max(1, dt[1] // 2), depth(r"blocks\.(\d+)\."), dt[2], A[1], dt[0])
    expand = first(r"\d+\.conv_pw\.0\.weight", 4)
    if expand:
        return _Stage("inres", expand[1], depth(r"(\d+)\.conv_pw\."), math.ceil(expand[1] / 16))
    return None
