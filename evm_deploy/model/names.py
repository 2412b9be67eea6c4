"""The names that a checkpoint's tensors have had, and what their shapes say about the network."""

import dataclasses
import math
import re

from torch import Tensor

from evm_deploy.model.config import ModelConfig

OLD_NAMES = (
    (re.compile(r"^patch_embed\.proj\."), "patch_embed.0."),
    (re.compile(r"^patch_embed\.norm\."), "patch_embed.2."),
    (re.compile(r"^(layers\.\d+\.blocks\.\d+)\.ln_1\."), r"\1.norm."),
    (re.compile(r"^(layers\.\d+\.blocks\.\d+)\.self_attention\."), r"\1.op."),
    (re.compile(r"^norm\."), "classifier.norm."),
    (re.compile(r"^head\."), "classifier.head."),
)
STEM = re.compile(r"^((?:.*\.)?)patch_embed\.(?:0|proj)\.weight$")


def canonical(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors under their released names, and the names of those that are not part of the network.

    Whatever precedes the stem's name (`module.`, `backbone.`) is taken off; with such a prefix, tensors without it
    belong to something else, such as the neck and the heads of a detector.
    """
    prefixes = [match[1] for name in tensors if (match := STEM.match(name))]
    prefix = min(prefixes, key=len, default="")
    renamed, ignored = {}, []
    for name, tensor in tensors.items():
        if name.startswith(prefix):
            renamed[_renamed(name.removeprefix(prefix))] = tensor
        else:
            ignored.append(name)
    return renamed, ignored


def _renamed(name: str) -> str:
    for pattern, replacement in OLD_NAMES:
        name = pattern.sub(replacement, name)
    return name


def infer_config(tensors: dict[str, Tensor], scan: str) -> ModelConfig | None:
    """The configuration that the shapes say; None where they say none. It may not fit every tensor."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    stages = {int(name.split(".")[1]) for name in shapes if re.match(r"layers\.\d+\.", name)}
    read = [_infer_stage(shapes, i) for i in sorted(stages)]
    known = [stage for stage in read if stage is not None]
    if not known or len(known) != len(read) or "patch_embed.0.weight" not in shapes:
        return None
    scanned = [stage for stage in known if stage.kind == "evss"]
    ranks = tuple(stage.rank for stage in known)
    outputs = tuple(int(name[7]) for name in shapes if re.fullmatch(r"outnorm\d\.weight", name))
    head = shapes.get("classifier.head.weight")
    config = ModelConfig(
        dims=tuple(stage.dim for stage in known),
        depths=tuple(stage.depth for stage in known),
        d_state=scanned[0].d_state if scanned else 16,
        dt_rank=ranks,
        step=math.isqrt(scanned[0].directions) if scanned and scan != "ss2d" else 2,
        num_classes=head[0] if head else None if outputs else 1000,
        blocks=tuple(stage.kind for stage in known),
        scan=scan,
        conv_branch=not scanned or any(".conv_branch." in name for name in shapes),
    )
    usual = dataclasses.replace(config, dt_rank=None)
    if all(usual.rank(i) == rank for i, rank in enumerate(ranks)):
        config = usual
    if config.num_classes is None and outputs != config.outputs:
        config = dataclasses.replace(config, out_indices=tuple(sorted(outputs)))
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

    norm = first(r"blocks\.\d+\.norm\.weight", 1)
    dt, A = first(r"blocks\.\d+\.op\.dt_projs_weight", 3), first(r"blocks\.\d+\.op\.A_logs", 2)
    if norm and dt and A:
        return _Stage("evss", norm[0], depth(r"blocks\.(\d+)\."), dt[2], A[1], dt[0])
    expand = first(r"\d+\.conv_pw\.0\.weight", 4)
    if expand:
        return _Stage("inres", expand[1], depth(r"(\d+)\.conv_pw\."), math.ceil(expand[1] / 16))
    return None
