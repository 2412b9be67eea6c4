"""The feature pyramid: maps of all strides, each with what the coarser ones know."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from evm_deploy.models.family import FeatureMap, UnsupportedNetwork
from evm_deploy.models.heads.convolutions import ConvUnit
from evm_deploy.models.heads.shapes import TensorShapes


@dataclass(frozen=True)
class PyramidConfig:
    """levels: the maps of the backbone that are taken, the last ones.

    extra: coarser levels that convolutions of stride 2 make, of the last map where `on_input`, else of the last level.
    """

    width: int
    levels: int
    extra: int = 0
    on_input: bool = True


class FeaturePyramid(nn.Module):
    """Lateral convolutions, sums from coarse to fine, and a convolution on each level. No norms, no activations."""

    def __init__(self, config: PyramidConfig, maps: Sequence[FeatureMap]) -> None:
        super().__init__()
        self.config = config
        taken, width = maps[-config.levels :], config.width
        self.lateral_convs = nn.ModuleList(ConvUnit(each.width, width, 1, relu=False) for each in taken)
        self.fpn_convs = nn.ModuleList(ConvUnit(width, width, 3, relu=False) for _ in taken)
        for i in range(config.extra):
            unit = ConvUnit(taken[-1].width if config.on_input and i == 0 else width, width, 3, relu=False)
            unit.conv.stride = (2, 2)
            self.fpn_convs.append(unit)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """The backbone's maps (B, C, h, w) -> the levels (B, width, h, w), the finest first."""
        taken = features[-self.config.levels :]
        sums = [lateral(feature) for lateral, feature in zip(self.lateral_convs, taken, strict=True)]
        for i in range(len(sums) - 1, 0, -1):
            sums[i - 1] = sums[i - 1] + F.interpolate(sums[i], size=sums[i - 1].shape[2:], mode="nearest")
        levels = [conv(each) for conv, each in zip(self.fpn_convs, sums, strict=False)]
        x = taken[-1] if self.config.on_input else levels[-1]
        for conv in list(self.fpn_convs)[len(sums) :]:
            x = conv(x)
            levels.append(x)
        return levels


def infer_pyramid(shapes: TensorShapes, maps: Sequence[FeatureMap]) -> PyramidConfig:
    """The pyramid `neck` on a backbone with these maps. Raises UnsupportedNetwork."""
    levels, convs = shapes.count("neck.lateral_convs."), shapes.count("neck.fpn_convs.")
    if not 1 <= levels <= len(maps):
        raise UnsupportedNetwork(f"its pyramid takes {levels} maps, and its backbone gives {len(maps)}")
    if convs < levels:
        raise UnsupportedNetwork(f"its pyramid has {convs} levels for {levels} maps")
    width = shapes.read("neck.lateral_convs.0.conv.weight", 4)[0]
    on_input = convs == levels or shapes.read(f"neck.fpn_convs.{levels}.conv.weight", 4)[1] == maps[-1].width
    return PyramidConfig(width, levels, convs - levels, on_input)


def list_strides(config: PyramidConfig, maps: Sequence[FeatureMap]) -> list[int]:
    """The pixels from cell to cell of each level."""
    strides = [each.stride for each in maps[-config.levels :]]
    return strides + [strides[-1] << i for i in range(1, config.extra + 1)]


def list_fixed(config: PyramidConfig) -> dict[str, Any]:
    """What the text of a configuration can say of the pyramid alone."""
    return {
        "neck.type": "FPN",
        "neck.relu_before_extra_convs": False,
        "neck.upsample_cfg.mode": "nearest",
        "neck.add_extra_convs": _describe_extra(config),
    }


def _describe_extra(config: PyramidConfig) -> set[str | bool]:
    if not config.extra:
        return {False}
    return {True, "on_input"} if config.on_input else {"on_output"}
