"""RetinaNet, as mmdetection has it: a pyramid, and two towers shared by its levels."""

from collections.abc import Sequence

from torch import Tensor, nn

from evm_deploy.models.heads import backbones
from evm_deploy.models.heads.convolutions import make_tower
from evm_deploy.models.heads.fpn import FeaturePyramid
from evm_deploy.models.heads.retinanet.config import RetinaNetConfig


class RetinaNetHead(nn.Module):
    """The towers and their last layers, with the parameter names of `bbox_head`."""

    def __init__(self, config: RetinaNetConfig) -> None:
        super().__init__()
        in_width, width = config.pyramid.width, config.width
        self.cls_convs = make_tower(in_width, width, config.cls_depth)
        self.reg_convs = make_tower(in_width, width, config.reg_depth)
        self.retina_cls = nn.Conv2d(width, config.anchors * config.num_classes, 3, padding=1)
        self.retina_reg = nn.Conv2d(width, config.anchors * 4, 3, padding=1)

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The pyramid's levels -> logits (B, A * classes, h, w) of each, then shifts (B, A * 4, h, w) of each."""
        scores = [self.retina_cls(self.cls_convs(level)) for level in levels]
        return (*scores, *(self.retina_reg(self.reg_convs(level)) for level in levels))


class RetinaNet(nn.Module):
    """The network of `config`, with the parameter names and shapes of checkpoints."""

    def __init__(self, config: RetinaNetConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbones.build_backbone(config.backbone_family, config.backbone)
        maps = backbones.list_maps(config.backbone_family, config.backbone)
        self.neck = FeaturePyramid(config.pyramid, maps)
        self.bbox_head = RetinaNetHead(config)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W), padded -> what `RetinaNetHead` gives. Raises InputError as the backbone does."""
        outputs: tuple[Tensor, ...] = self.bbox_head(self.neck(self.backbone(x)))
        return outputs
