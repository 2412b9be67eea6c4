"""RetinaNet (arXiv 1708.02002), as mmdetection trains it: configuration, network, names, and its detections."""

from torch import Tensor

from evm_deploy.models.heads.family import make_head
from evm_deploy.models.heads.retinanet.config import RetinaNetConfig
from evm_deploy.models.heads.retinanet.detect import find_detections
from evm_deploy.models.heads.retinanet.names import CHOSEN, STEM, infer_config, list_fixed_settings
from evm_deploy.models.heads.retinanet.network import RetinaNet
from evm_deploy.models.last_steps import ImageSize, LastSteps, Sizes
from evm_deploy.tasks.detection import DETECTION, DETECTIONS


def _name_outputs(config: RetinaNetConfig) -> list[str]:
    """By the strides of their levels."""
    return [f"{what}{stride}" for what in ("scores", "shifts") for stride in config.strides]


def _find(network: RetinaNet, outputs: tuple[Tensor, ...], size: ImageSize, sizes: Sizes) -> tuple[Tensor, ...]:
    return tuple(find_detections(network.config, outputs, size))


FAMILY = make_head(
    "RetinaNet",
    RetinaNet,
    STEM,
    infer_config,
    _name_outputs,
    LastSteps(DETECTION.name, (1333, 800), 32, _find, lambda sides: [spec.shape for spec in DETECTIONS]),
    blocks="neck|bbox_head",
    list_fixed=list_fixed_settings,
    chosen=CHOSEN,
)
