"""What the names and shapes of its tensors say about a Mask R-CNN."""

import math
import re
from typing import Any

from torch import Tensor

from evm_deploy.models.family import UnsupportedNetwork
from evm_deploy.models.heads import backbones, detections
from evm_deploy.models.heads.fpn import infer_pyramid, list_fixed
from evm_deploy.models.heads.mask_rcnn.config import BOX_STD, MASK_SIDE, RATIOS, SCALE, MaskRCNNConfig
from evm_deploy.models.heads.region_pooling import USUAL_SIDE
from evm_deploy.models.heads.settings import ChosenNumber
from evm_deploy.models.heads.shapes import NORMS, TensorShapes, divide
from evm_deploy.showing.masks import LEAST

STEM = re.compile(r"^((?:.*\.)?)roi_head\.bbox_head\.(?:\d\.)?fc_cls\.weight$")  # see `Family.stem`
OTHERS = (
    (re.compile(r"^roi_head\.(bbox|mask)_head\.\d\."), "a cascade of heads"),
    (re.compile(r"^roi_head\.mask_iou_head\."), "a head that scores masks"),
    (re.compile(r"^roi_head\.(semantic_head|glbctx_head|\w+_head\.\d)\."), "a head for the whole image"),
    (re.compile(r"^roi_head\.mask_head\.(fcs|coarse|point)"), "a mask head of another kind"),
    NORMS,
    (re.compile(r"^roi_head\.bbox_head\.(shared_convs|cls_convs|reg_convs|cls_fcs|reg_fcs)\."), "more in its box head"),
    (re.compile(r"^rpn_head\.rpn_conv\.\d"), "several convolutions before its proposals"),
    (re.compile(r"^(bbox_head|mask_head|decode_head)\."), "the tensors of another head too"),
)


def infer_config(tensors: dict[str, Tensor], scan: str | None) -> MaskRCNNConfig:
    """The configuration that the shapes say, which may not fit every tensor. Raises UnsupportedNetwork."""
    shapes = TensorShapes(tensors)
    shapes.refuse(OTHERS)
    title, backbone = backbones.infer_backbone(tensors, scan)
    pyramid = infer_pyramid(shapes, backbones.list_maps(title, backbone))
    if "roi_head.mask_head.conv_logits.weight" not in shapes:
        raise UnsupportedNetwork("it has no mask head: it is a Faster R-CNN")
    anchors, proposal_width, *_ = shapes.read("rpn_head.rpn_cls.weight", 4)
    if anchors != len(RATIOS):
        raise UnsupportedNetwork(f"its proposals have {anchors} scores in a cell, not {len(RATIOS)}")
    num_classes = shapes.read("roi_head.bbox_head.fc_cls.weight", 2)[0] - 1
    if num_classes < 1:
        raise UnsupportedNetwork("its box head has no classes beside the background")
    linear = shapes.count("roi_head.bbox_head.shared_fcs.")
    widths = [shapes.read(f"roi_head.bbox_head.shared_fcs.{i}.weight", 2) for i in range(max(linear, 1))]
    mask_classes, mask_width, *_ = shapes.read("roi_head.mask_head.conv_logits.weight", 4)
    return MaskRCNNConfig(
        backbone_family=title,
        backbone=backbone,
        pyramid=pyramid,
        num_classes=num_classes,
        proposal_width=proposal_width,
        box_side=math.isqrt(divide(widths[0][1], pyramid.width, "shared_fcs.0", "channels of a level")),
        box_widths=tuple(out for out, _ in widths),
        box_classes=_check_classes("box", _read_box_classes(shapes), num_classes),
        mask_width=mask_width,
        mask_depth=shapes.count("roi_head.mask_head.convs."),
        mask_classes=_check_classes("mask", mask_classes, num_classes),
    )


def _read_box_classes(shapes: TensorShapes) -> int:
    return divide(shapes.read("roi_head.bbox_head.fc_reg.weight", 2)[0], 4, "fc_reg", "coordinates")


def _check_classes(head: str, found: int, num_classes: int) -> int:
    """Raises UnsupportedNetwork unless there is one of each class, or one for all."""
    if found not in (1, num_classes):
        why = f"its {head} head has {found} classes, and its scores are of {num_classes} and the background"
        raise UnsupportedNetwork(why)
    return found


def list_fixed_settings(config: MaskRCNNConfig) -> dict[str, Any]:
    """What the text of a configuration can say alone; see `apply_settings`."""
    anchors, box, mask = "rpn_head.anchor_generator", "roi_head.bbox_head", "roi_head.mask_roi_extractor"
    pooled = "roi_head.bbox_roi_extractor"
    layer = {"type": "RoIAlign", "sampling_ratio": 0, "aligned": True}
    return {
        **list_fixed(config.pyramid),
        **{f"test_cfg.rpn.{name}": value for name, value in (("nms.type", "nms"), ("min_bbox_size", 0))},
        **detections.list_fixed("test_cfg.rcnn"),
        "test_cfg.rcnn.mask_thr_binary": LEAST,
        "rpn_head.type": "RPNHead",
        "roi_head.type": "StandardRoIHead",
        f"{anchors}.type": "AnchorGenerator",
        f"{anchors}.scales": (SCALE,),
        f"{anchors}.ratios": RATIOS,
        f"{anchors}.strides": config.strides,
        "rpn_head.bbox_coder.target_stds": (1, 1, 1, 1),
        f"{box}.bbox_coder.target_means": (0, 0, 0, 0),
        f"{box}.bbox_coder.target_stds": BOX_STD,
        f"{box}.num_classes": config.num_classes,
        **{f"{each}.roi_layer.{name}": value for each in (pooled, mask) for name, value in layer.items()},
        **{f"{each}.featmap_strides": config.pooled_strides for each in (pooled, mask)},
        **{f"{each}.finest_scale": USUAL_SIDE for each in (pooled, mask)},
        f"{pooled}.roi_layer.output_size": config.box_side,
        f"{mask}.roi_layer.output_size": MASK_SIDE,
    }


CHOSEN = (
    *detections.list_chosen("test_cfg.rpn", "proposals", scores=False),
    ChosenNumber("test_cfg.rpn.nms_pre", "proposals.most_of_level", 1, detections.MOST_BOXES),
    *detections.list_chosen("test_cfg.rcnn"),
)
