"""UperNet, as mmsegmentation has it: pooled context on the coarsest map, and a pyramid whose levels are joined."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evm_deploy.models.family import FeatureMap
from evm_deploy.models.heads import backbones
from evm_deploy.models.heads.convolutions import ConvUnit
from evm_deploy.models.heads.pooling import pool_adaptively
from evm_deploy.models.heads.upernet.config import POOLED, UperNetConfig


class PooledContext(nn.Sequential):
    """The map pooled to sides of its own, a convolution, and back to the map's size; indices as in the checkpoints."""

    def __init__(self, side: int, in_width: int, width: int) -> None:
        super().__init__(nn.Identity(), ConvUnit(in_width, width, 1, norm=True))
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, width, h, w)."""
        return resize(self[1](pool_adaptively(x, self.side)), x)


class UperNetHead(nn.Module):
    """From the maps of a backbone to logits, with the parameter names of `decode_head`."""

    def __init__(self, config: UperNetConfig, maps: Sequence[FeatureMap]) -> None:
        super().__init__()
        width, last = config.width, maps[-1].width
        self.psp_modules = nn.ModuleList(PooledContext(side, last, width) for side in POOLED)
        self.bottleneck = ConvUnit(last + len(POOLED) * width, width, 3, norm=True)
        self.lateral_convs = nn.ModuleList(ConvUnit(each.width, width, 1, norm=True) for each in maps[:-1])
        self.fpn_convs = nn.ModuleList(ConvUnit(width, width, 3, norm=True) for _ in maps[:-1])
        self.fpn_bottleneck = ConvUnit(len(maps) * width, width, 3, norm=True)
        self.conv_seg = nn.Conv2d(width, config.num_classes, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """The backbone's maps (B, C, h, w) -> logits (B, classes, h, w) of the size of the first."""
        last = features[-1]
        context = self.bottleneck(torch.cat([last, *(module(last) for module in self.psp_modules)], 1))
        sums = [lateral(feature) for lateral, feature in zip(self.lateral_convs, features[:-1], strict=True)]
        sums.append(context)
        for i in range(len(sums) - 1, 0, -1):
            sums[i - 1] = sums[i - 1] + resize(sums[i], sums[i - 1])
        levels = [conv(each) for conv, each in zip(self.fpn_convs, sums[:-1], strict=True)]
        levels.append(context)
        logits: Tensor = self.conv_seg(
            self.fpn_bottleneck(torch.cat([resize(level, levels[0]) for level in levels], 1))
        )
        return logits


class UperNet(nn.Module):
    """The network of `config`, with the parameter names and shapes of checkpoints."""

    def __init__(self, config: UperNetConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbones.build_backbone(config.backbone_family, config.backbone)
        self.decode_head = UperNetHead(config, backbones.list_maps(config.backbone_family, config.backbone))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> logits (B, classes, h, w), a fourth of the size. Raises InputError as the backbone does."""
        logits: Tensor = self.decode_head(self.backbone(x))
        return logits


def resize(x: Tensor, like: Tensor) -> Tensor:
    """x (B, C, h, w) interpolated linearly to the height and width of `like`."""
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)


def fold_head(model: UperNet) -> None:
    """Folds each BatchNorm of the head into the convolution before it, in place."""
    for module in model.decode_head.modules():
        if isinstance(module, ConvUnit):
            module.fold()
