"""RetinaNet (arXiv 1708.02002), as mmdetection trains it: configuration, network, names, and its detections."""

from evm_deploy.models.heads.family import make_head
from evm_deploy.models.heads.retinanet.config import RetinaNetConfig
from evm_deploy.models.heads.retinanet.names import CHOSEN, STEM, infer_config, list_fixed_settings
from evm_deploy.models.heads.retinanet.network import RetinaNet


def _name_outputs(config: RetinaNetConfig) -> list[str]:
    """By the strides of their levels."""
    return [f"{what}{stride}" for what in ("scores", "shifts") for stride in config.strides]


FAMILY = make_head(
    "RetinaNet",
    RetinaNet,
    STEM,
    infer_config,
    _name_outputs,
    blocks="neck|bbox_head",
    list_fixed=list_fixed_settings,
    chosen=CHOSEN,
)
