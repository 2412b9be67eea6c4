"""Reads from what a checkpoint file holds how its images are to be prepared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from evm_deploy.manifest import Preprocessing
from evm_deploy.models.recorded.openmmlab import read_openmmlab
from evm_deploy.models.recorded.statement import Statement, as_mapping
from evm_deploy.models.recorded.swin import read_swin
from evm_deploy.models.recorded.timm import read_timm

# Where a file states it, and what reads it; of two that state a field the first is taken. The arguments of a training
# script come before the configuration of the model that they were applied to.
_READERS = (
    (("args",), read_timm),
    (("config",), read_swin),
    (("meta", "cfg"), read_openmmlab),
    (("meta", "config"), read_openmmlab),
    (("pretrained_cfg",), read_timm),
    (("default_cfg",), read_timm),
    (("config", "pretrained_cfg"), read_timm),
)


@dataclass(frozen=True)
class RecordedPreprocessing:
    """What a checkpoint states of its preprocessing, and where in the file; nothing, where it is silent."""

    values: Mapping[str, Any] = field(default_factory=dict)  # fields of `Preprocessing`
    sources: Mapping[str, str] = field(default_factory=dict)  # by the names of these fields
    image_size: tuple[int, int] | None = None  # (h, w)
    size_source: str = ""
    scale: tuple[int, int] | None = None  # the (long, short) sides of the box that images are fitted into
    scale_source: str = ""
    remarks: Mapping[str, str] = field(default_factory=dict)  # by the field, or "", that they are of

    def apply(self, steps: Preprocessing) -> Preprocessing:
        """`steps` with what is stated in the place of its own."""
        stated = {"fill": steps.fill, "resize": steps.resize, **self.values}
        if stated["resize"] != "letterbox":
            stated["fill"] = 0
        return replace(steps, **stated)


def read_recorded(content: Any) -> RecordedPreprocessing:
    """What the file states, whose content is untrusted: values that are out of range become remarks."""
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    remarks: dict[str, str] = {}
    statements = list(_list_statements(content))
    for one in statements:
        remarks |= {name: remark for name, remark in one.remarks.items() if name not in values | remarks}
        fresh = {name: value for name, value in one.values.items() if name not in values}
        if "resize" not in fresh:
            fresh.pop("fill", None)  # it belongs to its letterbox
        values |= fresh
        sources |= dict.fromkeys(fresh, one.source)
    sized = next((one for one in statements if one.image_size is not None), None)
    size, size_source = (sized.image_size, sized.source) if sized else (None, "")
    fitted = next((one for one in statements if one.scale is not None), None)
    scale, scale_source = (fitted.scale, fitted.source) if fitted else (None, "")
    return RecordedPreprocessing(values, sources, size, size_source, scale, scale_source, remarks)


def _list_statements(content: Any) -> Iterator[Statement]:
    for path, read in _READERS:
        said: Any = content
        for name in path:
            said = as_mapping(said).get(name)
        if said is not None:
            yield read(".".join(path), said)
