"""EfficientVMamba (arXiv 2403.09977): configuration, network, names in checkpoints, exact folding."""

import re

from evm_deploy.models.efficientvmamba.config import SCANS, ModelConfig, name_variant
from evm_deploy.models.efficientvmamba.fold import fold, fold_preprocessing
from evm_deploy.models.efficientvmamba.names import explain, infer_config
from evm_deploy.models.efficientvmamba.network import PATCH, EfficientVMamba
from evm_deploy.models.family import Family, FeatureMap
from evm_deploy.models.layers.names import STEM, rename_layers
from evm_deploy.models.layers.scan_mixer import SCAN_PARAMETERS


def _name_outputs(config: ModelConfig) -> list[str] | None:
    """A backbone's maps are named after their stages."""
    return [f"feature{stage}" for stage in config.outputs] if config.num_classes is None else None


def _list_maps(config: ModelConfig) -> tuple[FeatureMap, ...]:
    stages = config.outputs if config.num_classes is None else ()
    return tuple(FeatureMap(PATCH << stage, config.dims[stage]) for stage in stages)


FAMILY = Family(
    title="EfficientVMamba",
    network=EfficientVMamba,
    stem=STEM,
    rename=rename_layers,
    infer_config=infer_config,
    explain=explain,
    fold=fold,
    fold_preprocessing=fold_preprocessing,
    name_outputs=_name_outputs,
    name_variant=name_variant,
    blocks=re.compile(r"patch_embed|layers\.\d+\.(blocks\.\d+|downsample|\d+)|classifier"),
    scan_values=SCAN_PARAMETERS,
    scans=SCANS,
    list_maps=_list_maps,
)
