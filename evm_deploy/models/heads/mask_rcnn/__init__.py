"""Mask R-CNN (arXiv 1703.06870), as mmdetection trains it: configuration, network, names, its detections and masks."""

from torch import Tensor

from evm_deploy.models.heads.family import make_head
from evm_deploy.models.heads.mask_rcnn.config import MASK_SIDE, MaskRCNNConfig
from evm_deploy.models.heads.mask_rcnn.detect import find_instances
from evm_deploy.models.heads.mask_rcnn.names import CHOSEN, STEM, infer_config, list_fixed_settings
from evm_deploy.models.heads.mask_rcnn.network import MaskRCNN
from evm_deploy.models.last_steps import ImageSize, LastSteps, Sizes
from evm_deploy.tasks import Shape
from evm_deploy.tasks.detection import DETECTIONS, FOUND, INSTANCE_SEGMENTATION


def _name_outputs(config: MaskRCNNConfig) -> list[str]:
    """By the strides of their levels."""
    levels = [f"level{stride}" for stride in config.pooled_strides]
    return levels + [f"{what}{stride}" for what in ("scores", "shifts") for stride in config.strides]


def _find(network: MaskRCNN, outputs: tuple[Tensor, ...], size: ImageSize, sizes: Sizes) -> tuple[Tensor, ...]:
    found = find_instances(network, outputs, size)
    return (*found.detections, found.masks)


def _list_shapes(sides: tuple[int | str, int | str]) -> list[Shape]:
    return [*(spec.shape for spec in DETECTIONS), (FOUND, 2 * MASK_SIDE, 2 * MASK_SIDE)]


FAMILY = make_head(
    "Mask R-CNN",
    MaskRCNN,
    STEM,
    infer_config,
    _name_outputs,
    LastSteps(INSTANCE_SEGMENTATION.name, (1333, 800), 32, _find, _list_shapes, parts=("roi_head",)),
    blocks="neck|rpn_head",
    list_fixed=list_fixed_settings,
    chosen=CHOSEN,
)
