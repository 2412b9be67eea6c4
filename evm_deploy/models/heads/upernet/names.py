"""What the names and shapes of its tensors say about a UperNet."""

import re
from typing import Any

from torch import Tensor

from evm_deploy.models.family import UnsupportedNetwork
from evm_deploy.models.heads import backbones
from evm_deploy.models.heads.shapes import TensorShapes
from evm_deploy.models.heads.upernet.config import POOLED, UperNetConfig

STEM = re.compile(r"^((?:.*\.)?)decode_head\.(?:\d\.)?conv_seg\.weight$")  # see `Family.stem`
OTHERS = (
    (re.compile(r"^decode_head\.\d\."), "several decode heads, one after the other"),
    (re.compile(r"^decode_head\..*\.(gn|ln|norm)\w*\."), "another normalisation than BatchNorm in its head"),
    (re.compile(r"^(bbox_head|rpn_head|roi_head|neck)\."), "the tensors of another head, or a neck, too"),
)


def infer_config(tensors: dict[str, Tensor], scan: str | None) -> UperNetConfig:
    """The configuration that the shapes say, which may not fit every tensor. Raises UnsupportedNetwork."""
    shapes = TensorShapes(tensors)
    shapes.refuse(OTHERS)
    if not shapes.count("decode_head.psp_modules."):
        kind = "an FCN's, convolutions alone" if shapes.count("decode_head.convs.") else "of another kind"
        raise UnsupportedNetwork(f"its decode head has no pooled context (psp_modules): it is {kind}")
    title, backbone = backbones.infer_backbone(tensors, scan)
    maps, levels = backbones.list_maps(title, backbone), shapes.count("decode_head.lateral_convs.") + 1
    if levels != len(maps):
        raise UnsupportedNetwork(f"its head takes {levels} maps, and its backbone gives {len(maps)}")
    if (scales := shapes.count("decode_head.psp_modules.")) != len(POOLED):
        raise UnsupportedNetwork(f"it pools to {scales} sizes, not to {', '.join(map(str, POOLED))}")
    num_classes, width, *_ = shapes.read("decode_head.conv_seg.weight", 4)
    if num_classes == 1:
        raise UnsupportedNetwork("it has one output, a foreground by a threshold, in the place of classes")
    return UperNetConfig(title, backbone, width, num_classes)


def list_fixed_settings(config: UperNetConfig) -> dict[str, Any]:
    """What the text of a configuration can say alone; see `apply_settings`."""
    return {
        "decode_head.type": "UPerHead",
        "decode_head.pool_scales": POOLED,
        "decode_head.align_corners": False,
        "decode_head.num_classes": config.num_classes,
        "test_cfg.mode": "whole",
    }
