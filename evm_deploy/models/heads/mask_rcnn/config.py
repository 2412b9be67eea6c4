"""What distinguishes one Mask R-CNN from another."""

from dataclasses import dataclass, field
from typing import Any

from evm_deploy.models.heads import backbones
from evm_deploy.models.heads.detections import DetectionConfig
from evm_deploy.models.heads.fpn import PyramidConfig, list_strides

SCALE = 8  # strides: the side of an anchor
RATIOS = (0.5, 1.0, 2.0)  # of height to width
BOX_STD = (0.1, 0.1, 0.2, 0.2)  # what a unit of the box head's shifts is
MASK_SIDE = 14  # cells that are pooled for a mask, whatever its head makes of them


@dataclass(frozen=True)
class ProposalConfig:
    """What becomes of the proposals. Defaults are those of mmdetection."""

    most_overlap: float = 0.7  # of two boxes of a level
    most_of_level: int = 1000  # before suppression
    most: int = 1000


@dataclass(frozen=True)
class MaskRCNNConfig:
    """box_side: cells that are pooled for a box; box_widths: of the linear layers of its head.

    box_classes, mask_classes: what boxes and masks are told apart by; 1: all classes share one.
    """

    backbone_family: str
    backbone: Any
    pyramid: PyramidConfig
    num_classes: int
    proposal_width: int
    box_side: int
    box_widths: tuple[int, ...]
    box_classes: int
    mask_width: int
    mask_depth: int
    mask_classes: int
    proposals: ProposalConfig = field(default_factory=ProposalConfig)
    detection: DetectionConfig = field(default_factory=DetectionConfig)

    @property
    def anchors(self) -> int:
        """Of each cell."""
        return len(RATIOS)

    @property
    def strides(self) -> list[int]:
        """The pixels from cell to cell of each level that proposals come from."""
        strides = list_strides(self.pyramid, backbones.list_maps(self.backbone_family, self.backbone))
        return strides if self.pyramid.extra else [*strides, 2 * strides[-1]]

    @property
    def pooled_strides(self) -> list[int]:
        """The same of the levels that boxes and masks are pooled from."""
        return self.strides[: self.pyramid.levels]
