"""Mask R-CNN, as mmdetection has it: a pyramid, proposals on each level, and heads for the boxes and their masks."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from evm_deploy.models.heads import backbones
from evm_deploy.models.heads.convolutions import make_tower
from evm_deploy.models.heads.fpn import FeaturePyramid
from evm_deploy.models.heads.mask_rcnn.config import MaskRCNNConfig


class Proposals(NamedTuple):
    """What the network says before boxes are chosen, a map of each level, the finest first.

    levels: (B, C, h, w), which boxes are pooled from; scores: (B, A, h, w) logits; shifts: (B, A * 4, h, w).
    """

    levels: list[Tensor]
    scores: list[Tensor]
    shifts: list[Tensor]


class ProposalHead(nn.Module):
    """What says where something is, whatever it is, with the parameter names of `rpn_head`."""

    def __init__(self, config: MaskRCNNConfig) -> None:
        super().__init__()
        self.rpn_conv = nn.Conv2d(config.pyramid.width, config.proposal_width, 3, padding=1)
        self.rpn_cls = nn.Conv2d(config.proposal_width, config.anchors, 1)
        self.rpn_reg = nn.Conv2d(config.proposal_width, config.anchors * 4, 1)

    def forward(self, levels: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """The pyramid's levels -> logits (B, A, h, w) and shifts (B, A * 4, h, w) of each."""
        shared = [F.relu(self.rpn_conv(level)) for level in levels]
        return [self.rpn_cls(x) for x in shared], [self.rpn_reg(x) for x in shared]


class BoxHead(nn.Module):
    """What a proposal is, and where exactly, with the parameter names of `roi_head.bbox_head`."""

    def __init__(self, config: MaskRCNNConfig) -> None:
        super().__init__()
        widths = (config.pyramid.width * config.box_side**2, *config.box_widths)
        self.shared_fcs = nn.ModuleList(nn.Linear(*pair) for pair in itertools.pairwise(widths))
        self.fc_cls = nn.Linear(widths[-1], config.num_classes + 1)
        self.fc_reg = nn.Linear(widths[-1], config.box_classes * 4)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """(n, C, side, side) -> logits (n, classes + 1), the last that of nothing, and shifts (n, box classes * 4)."""
        x = pooled.flatten(1)
        for layer in self.shared_fcs:
            x = F.relu(layer(x))
        return self.fc_cls(x), self.fc_reg(x)


class MaskHead(nn.Module):
    """What of a box is covered, with the parameter names of `roi_head.mask_head`."""

    def __init__(self, config: MaskRCNNConfig) -> None:
        super().__init__()
        width = config.mask_width
        self.convs = make_tower(config.pyramid.width, width, config.mask_depth)
        self.upsample = nn.ConvTranspose2d(width if config.mask_depth else config.pyramid.width, width, 2, stride=2)
        self.conv_logits = nn.Conv2d(width, config.mask_classes, 1)

    def forward(self, pooled: Tensor) -> Tensor:
        """(n, C, side, side) -> logits (n, mask classes, 2 side, 2 side)."""
        logits: Tensor = self.conv_logits(F.relu(self.upsample(self.convs(pooled))))
        return logits


class RegionHead(nn.Module):
    """Both heads that look at boxes."""

    def __init__(self, config: MaskRCNNConfig) -> None:
        super().__init__()
        self.bbox_head = BoxHead(config)
        self.mask_head = MaskHead(config)


class MaskRCNN(nn.Module):
    """The network of `config`, with the parameter names and shapes of checkpoints."""

    def __init__(self, config: MaskRCNNConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbones.build_backbone(config.backbone_family, config.backbone)
        self.neck = FeaturePyramid(config.pyramid, backbones.list_maps(config.backbone_family, config.backbone))
        self.rpn_head = ProposalHead(config)
        self.roi_head = RegionHead(config)

    def propose(self, x: Tensor) -> Proposals:
        """(B, 3, H, W), padded -> the pyramid and what is said on each level. Raises InputError as the backbone."""
        levels = self.neck(self.backbone(x))
        if not self.config.pyramid.extra:
            levels.append(F.max_pool2d(levels[-1], 1, stride=2))
        return Proposals(levels, *self.rpn_head(levels))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The same, one after the other: the levels that boxes are pooled from, all scores, all shifts."""
        levels, scores, shifts = self.propose(x)
        return (*levels[: self.config.pyramid.levels], *scores, *shifts)
