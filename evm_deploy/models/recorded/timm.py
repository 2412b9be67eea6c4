"""What timm records: the configuration of a pretrained model, and the arguments of a training script."""

from __future__ import annotations

from typing import Any

from evm_deploy.manifest import IMAGENET_MEAN
from evm_deploy.models.recorded.statement import LEVELS, Statement, as_mapping, quote

_RESIZES = {"center": "cover", "squash": "squash", "border": "letterbox"}


def read_timm(source: str, said: Any) -> Statement:
    """Reads `pretrained_cfg`, `default_cfg` or the `args` of a training script; DeiT's names are among these."""
    entries, statement = as_mapping(said), Statement(source)
    statement.add_colours(entries.get("mean"), entries.get("std"))
    for name in ("crop_pct", "eval_crop_ratio"):
        if "crop_pct" not in statement.values and isinstance(entries.get(name), (int, float)):
            statement.add("crop_pct", entries[name])
    if entries.get("interpolation"):  # timm's is "" where the model decides
        statement.add("interpolation", entries["interpolation"])
    if entries.get("crop_mode"):
        _read_crop_mode(entries["crop_mode"], statement)
    for name in ("input_size", "img_size"):
        if statement.image_size is None:
            statement.add_size(entries.get(name))
    return statement


def _read_crop_mode(mode: Any, statement: Statement) -> None:
    if not isinstance(mode, str) or mode not in _RESIZES:
        statement.remark("resize", f"crop_mode {quote(mode)}, which export does not know")
        return
    statement.add("resize", _RESIZES[mode])
    if _RESIZES[mode] == "letterbox":  # timm pads with the mean of each channel
        levels = [round(LEVELS * mean) for mean in statement.values.get("mean", IMAGENET_MEAN)]
        fill = min(max(round(sum(levels) / 3), 0), LEVELS)
        statement.values["fill"] = fill
        if len(set(levels)) > 1:
            each = ", ".join(map(str, levels))
            statement.remark("fill", f"a padding of {each}; a letterbox has one level, here {fill}")
