"""UperNet (arXiv 1807.10221), as mmsegmentation trains it: configuration, network, names, and the labels of pixels."""

from collections.abc import Iterable

from torch import Tensor

from evm_deploy.models.heads.family import make_head
from evm_deploy.models.heads.upernet.config import UperNetConfig
from evm_deploy.models.heads.upernet.label import average_probabilities, find_labels
from evm_deploy.models.heads.upernet.names import STEM, infer_config, list_fixed_settings
from evm_deploy.models.heads.upernet.network import UperNet, fold_head
from evm_deploy.models.last_steps import ImageSize, LastSteps, Sizes
from evm_deploy.tasks.semantic_segmentation import SEMANTIC_SEGMENTATION


def _name_outputs(config: UperNetConfig) -> list[str]:
    return ["logits"]


def _find(network: UperNet, outputs: tuple[Tensor, ...], size: ImageSize, sizes: Sizes) -> tuple[Tensor, ...]:
    return (find_labels(outputs[0], *sizes),)


def _combine(passes: Iterable[tuple[Tensor, tuple[int, int]]], size: tuple[int, int]) -> tuple[Tensor, ...]:
    return (average_probabilities(passes, size).argmax(1).int(),)


FAMILY = make_head(
    "UperNet",
    UperNet,
    STEM,
    infer_config,
    _name_outputs,
    LastSteps(SEMANTIC_SEGMENTATION.name, (2048, 512), 1, _find, lambda sides: [(1, *sides)], combine=_combine),
    blocks="decode_head",
    list_fixed=list_fixed_settings,
    fold_head=fold_head,
)
