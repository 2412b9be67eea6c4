"""The networks in PyTorch, a folder a family, and the checkpoint loader."""

from evm_deploy.models.checkpoint import Checkpoint, load, open_file, read_checkpoint
from evm_deploy.models.efficientvmamba.config import VARIANTS, ModelConfig
from evm_deploy.models.efficientvmamba.fold import fold, fold_preprocessing
from evm_deploy.models.efficientvmamba.network import EfficientVMamba, count_parameters

__all__ = [
    "VARIANTS",
    "Checkpoint",
    "EfficientVMamba",
    "ModelConfig",
    "count_parameters",
    "fold",
    "fold_preprocessing",
    "load",
    "open_file",
    "read_checkpoint",
]
