"""What the names and shapes of its tensors say about a RetinaNet."""

import re
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from evm_deploy.models.heads import backbones, detections
from evm_deploy.models.heads.fpn import infer_pyramid, list_fixed
from evm_deploy.models.heads.retinanet.config import RATIOS, RetinaNetConfig
from evm_deploy.models.heads.settings import ChosenNumber
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
    _count_steps(anchors, RATIOS)
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


def _count_steps(anchors: int, ratios: Sequence[float]) -> int:
    return divide(anchors, len(ratios), "cell", "ratios of anchors")


def list_fixed_settings(config: RetinaNetConfig) -> dict[str, Any]:
    """What the text of a configuration can say alone; see `apply_settings`."""
    anchors, coder = "bbox_head.anchor_generator", "bbox_head.bbox_coder"
    return {
        **list_fixed(config.pyramid),
        **detections.list_fixed("test_cfg"),
        "bbox_head.type": "RetinaHead",
        f"{anchors}.type": "AnchorGenerator",
        f"{anchors}.strides": config.strides,
        f"{anchors}.scales": None,
        f"{anchors}.scales_per_octave": _count_steps(config.anchors, config.ratios),
        f"{anchors}.center_offset": 0.0,
        f"{coder}.type": "DeltaXYWHBBoxCoder",
        f"{coder}.target_means": (0, 0, 0, 0),
        f"{coder}.target_stds": (1, 1, 1, 1),
        "bbox_head.loss_cls.use_sigmoid": True,
        "bbox_head.num_classes": config.num_classes,
    }


CHOSEN = (
    *detections.list_chosen("test_cfg"),
    ChosenNumber("test_cfg.nms_pre", "detection.most_of_level", 1, detections.MOST_BOXES),
    ChosenNumber("bbox_head.anchor_generator.octave_base_scale", "anchor_scale", 0.1, 100.0),
    ChosenNumber("bbox_head.anchor_generator.ratios", "ratios", 0.01, 100.0),
)
