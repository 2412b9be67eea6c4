"""UperNet (arXiv 1807.10221), as mmsegmentation trains it: configuration, network, names, and the labels of pixels."""

from evm_deploy.models.heads.family import make_head
from evm_deploy.models.heads.upernet.config import UperNetConfig
from evm_deploy.models.heads.upernet.names import STEM, infer_config, list_fixed_settings
from evm_deploy.models.heads.upernet.network import UperNet, fold_head


def _name_outputs(config: UperNetConfig) -> list[str]:
    return ["logits"]


FAMILY = make_head(
    "UperNet",
    UperNet,
    STEM,
    infer_config,
    _name_outputs,
    blocks="decode_head",
    list_fixed=list_fixed_settings,
    fold_head=fold_head,
)
