"""The names that a checkpoint's tensors have had, and what their shapes say about the network."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from evm_deploy.models.layers.names import rename_layers
from evm_deploy.models.vmamba.config import DOWNSAMPLES, STEMS, VMambaConfig

# Of the scan: names under which training configurations choose it, and those of one mathematics. `_noz`, without a
# gate, is seen in the tensors; what else may follow is not.
FORM = re.compile(r"""(?:forward_type|SSM_FORWARDTYPE)['"]?\s*[=:]\s*['"]([\w.-]{1,40})['"]""")
KNOWN_FORM = re.compile(r"(v0|v0_seq|v01|v02|v03|v04|v05|v2|v3)(_noz)?")
LINEAR = re.compile(r"\.(in_proj|out_proj|fc1|fc2|head)\.weight$")


def rename(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under their released names; linear layers stored as convolutions of 1x1 are linear layers."""
    renamed = rename_layers(tensors)
    return {name: _drop_kernel(tensor) if LINEAR.search(name) else tensor for name, tensor in renamed.items()}


def _drop_kernel(weight: Tensor) -> Tensor:
    return weight[:, :, 0, 0] if weight.ndim == 4 and tuple(weight.shape[2:]) == (1, 1) else weight


@dataclass(frozen=True)
class _StageShapes:
    depth: int
    C: int
    D: int
    R: int


def infer_config(tensors: dict[str, Tensor], scan: str | None) -> VMambaConfig | list[str]:
    """The configuration that the shapes say, which may not fit every tensor; or what is missing to say any."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    first = "layers.0.blocks.0."
    needed = ("patch_embed.0.weight", f"{first}op.A_logs", f"{first}op.conv2d.weight", f"{first}op.in_proj.weight")
    missing = [name for name in needed if len(shapes.get(name, ())) < 2]
    numbers = sorted({int(match[1]) for name in shapes if (match := re.match(r"layers\.(\d{1,4})\.", name))})
    stages = {i: _infer_stage(shapes, i) for i in numbers}
    missing += [f"layers.{i}.blocks" for i, stage in stages.items() if stage is None]
    if missing:
        return missing
    known = [stage for stage in stages.values() if stage is not None]
    outputs = tuple(i for i in range(len(known)) if f"outnorm{i}.weight" in shapes)
    head = shapes.get("classifier.head.weight")
    hidden = shapes.get(first + "mlp.fc1.weight")
    config = VMambaConfig(
        dims=tuple(stage.C for stage in known),
        depths=tuple(stage.depth for stage in known),
        d_state=shapes[first + "op.A_logs"][1],
        d_inner=tuple(stage.D for stage in known),
        dt_rank=tuple(stage.R for stage in known),
        gate=shapes[first + "op.in_proj.weight"][0] == 2 * known[0].D,
        conv_bias=first + "op.conv2d.bias" in shapes,
        mlp=max(1, hidden[0] // known[0].C) if hidden else None,
        stem=STEMS["patch_embed.5.weight" in shapes],
        downsample=_infer_downsample(shapes),
        num_classes=None if outputs and not head else (head and head[0]) or 1000,
        out_indices=outputs if outputs and not head else None,
    )
    return _without_defaults(config)


def _infer_stage(shapes: dict[str, tuple[int, ...]], i: int) -> _StageShapes | None:
    """What the first block of stage i says, and how many blocks there are."""
    block = f"layers.{i}.blocks.0."
    norm, dt = shapes.get(block + "norm.weight", ()), shapes.get(block + "op.dt_projs_weight", ())
    if len(norm) != 1 or len(dt) != 3 or 0 in (*norm, *dt):
        return None
    depth = len({m[1] for name in shapes if (m := re.match(rf"layers\.{i}\.blocks\.(\d+)\.", name))})
    return _StageShapes(depth, norm[0], dt[1], dt[2])


def _infer_downsample(shapes: dict[str, tuple[int, ...]]) -> str:
    kernel = shapes.get("layers.0.downsample.1.weight", ())
    kinds = [kind for kind, side in DOWNSAMPLES.items() if kind != "merge" and kernel[2:] == (side, side)]
    return kinds[0] if kinds else "merge"


def _without_defaults(config: VMambaConfig) -> VMambaConfig:
    """`config` with the fields left out that say what their defaults say, so that equal networks compare equal."""
    usual = replace(config, d_inner=None, dt_rank=None)
    stages = range(len(config.dims))
    if all(usual.channels(i) == config.channels(i) for i in stages):
        config = replace(config, d_inner=None)
    if all(math.ceil(config.dims[i] / 16) == config.rank(i) for i in stages):
        config = replace(config, dt_rank=None)
    return replace(config, out_indices=None) if config.out_indices == tuple(stages) else config


def explain_form(content: Any, config: VMambaConfig) -> str | None:
    """What the configuration in a file says of the scan, if that is not the mathematics of the released networks."""
    named = [form for form in _list_forms(content) if not KNOWN_FORM.fullmatch(form)]
    return f"its configuration names the scan {named[0]}, whose mathematics is another" if named else None


def _list_forms(content: Any) -> Iterator[str]:
    """The form that a file of the classifier's training script names, and those in the text of mmengine's."""
    found = content
    for key in ("config", "MODEL", "VSSM", "SSM_FORWARDTYPE"):
        found = found.get(key) if isinstance(found, Mapping) else None
    if isinstance(found, str):
        yield found
    meta = content.get("meta") if isinstance(content, Mapping) else None
    for text in (meta.get(key) for key in ("cfg", "config")) if isinstance(meta, Mapping) else ():
        if isinstance(text, str):
            yield from FORM.findall(text)
