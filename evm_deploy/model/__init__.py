"""The network in PyTorch, its configuration, the checkpoint loader, and exact folding."""

from evm_deploy.model.checkpoint import Checkpoint, load, read_checkpoint
from evm_deploy.model.config import VARIANTS, ModelConfig
from evm_deploy.model.fold import fold, fold_preprocessing
from evm_deploy.model.network import EfficientVMamba, count_parameters

__all__ = [
    "VARIANTS",
    "Checkpoint",
    "EfficientVMamba",
    "ModelConfig",
    "count_parameters",
    "fold",
    "fold_preprocessing",
    "load",
    "read_checkpoint",
]
