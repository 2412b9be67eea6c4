"""Mask R-CNN (arXiv 1703.06870), as mmdetection trains it: configuration, network, names, its detections and masks."""

from evm_deploy.models.heads.family import make_head
from evm_deploy.models.heads.mask_rcnn.config import MaskRCNNConfig
from evm_deploy.models.heads.mask_rcnn.names import CHOSEN, STEM, infer_config, list_fixed_settings
from evm_deploy.models.heads.mask_rcnn.network import MaskRCNN


def _name_outputs(config: MaskRCNNConfig) -> list[str]:
    """By the strides of their levels."""
    levels = [f"level{stride}" for stride in config.pooled_strides]
    return levels + [f"{what}{stride}" for what in ("scores", "shifts") for stride in config.strides]


FAMILY = make_head(
    "Mask R-CNN",
    MaskRCNN,
    STEM,
    infer_config,
    _name_outputs,
    blocks="neck|rpn_head",
    list_fixed=list_fixed_settings,
    chosen=CHOSEN,
)
