"""What the names and shapes of its tensors say about a RetinaNet."""

import re

from torch import Tensor

from evm_deploy.models.heads import backbones
from evm_deploy.models.heads.fpn import infer_pyramid
from evm_deploy.models.heads.retinanet.config import RATIOS, RetinaNetConfig
from evm_deploy.models.heads.shapes import NORMS, TensorShapes, divide

STEM = re.compile(r"^((?:.*\.)?)bbox_head\.retina_cls\.weight$")  # see `Family.stem`
OTHERS = (
    NORMS,
    (re.compile(r"^(rpn_head|roi_head|mask_head|decode_head)\."), "the tensors of another head too"),
)


def infer_config(tensors: dict[str, Tensor], scan: str | None) -> RetinaNetConfig:
    """The configuration that the shapes say, which may not fit every tensor. Raises UnsupportedNetwork."""
    shapes = TensorShapes(tensors)
    shapes.refuse(OTHERS)
    title, backbone = backbones.infer_backbone(tensors, scan)
    pyramid = infer_pyramid(shapes, backbones.list_maps(title, backbone))
    cls, width, *_ = shapes.read("bbox_head.retina_cls.weight", 4)
    anchors = divide(shapes.read("bbox_head.retina_reg.weight", 4)[0], 4, "retina_reg", "coordinates")
    divide(anchors, len(RATIOS), "cell", "ratios of anchors")
    return RetinaNetConfig(
        backbone_family=title,
        backbone=backbone,
        pyramid=pyramid,
        num_classes=divide(cls, anchors, "retina_cls", "anchors"),
        anchors=anchors,
        width=width,
        cls_depth=shapes.count("bbox_head.cls_convs."),
        reg_depth=shapes.count("bbox_head.reg_convs."),
    )
