"""What distinguishes one RetinaNet from another."""

from dataclasses import dataclass, field
from typing import Any

from evm_deploy.models.heads import backbones
from evm_deploy.models.heads.detections import DetectionConfig
from evm_deploy.models.heads.fpn import PyramidConfig, list_strides

SCALE = 4  # strides: the side of the smallest anchor
RATIOS = (0.5, 1.0, 2.0)  # of height to width


@dataclass(frozen=True)
class RetinaNetConfig:
    """anchors: of each cell, in steps of an octave from `anchor_scale` (in strides) on, and of `ratios`.

    width: of the convolutions of both towers, of which there are cls_depth and reg_depth.
    """

    backbone_family: str
    backbone: Any
    pyramid: PyramidConfig
    num_classes: int
    anchors: int
    width: int
    cls_depth: int
    reg_depth: int
    anchor_scale: float = float(SCALE)
    ratios: tuple[float, ...] = RATIOS
    detection: DetectionConfig = field(default_factory=DetectionConfig)

    @property
    def strides(self) -> list[int]:
        """The pixels from cell to cell of each level."""
        return list_strides(self.pyramid, backbones.list_maps(self.backbone_family, self.backbone))

    @property
    def scales(self) -> list[float]:
        """The sides of anchors, in strides: an octave in equal steps."""
        steps = self.anchors // len(self.ratios)
        return [self.anchor_scale * 2 ** (i / steps) for i in range(steps)]
