"""VMamba (arXiv 2401.10166) in all its released forms: configuration, network, names in checkpoints, exact folding."""

import re

from evm_deploy.models.family import Family, FeatureMap
from evm_deploy.models.layers.maps import SMALLEST
from evm_deploy.models.layers.names import STEM, explain_ends
from evm_deploy.models.layers.scan_mixer import SCAN_PARAMETERS
from evm_deploy.models.vmamba.config import VMambaConfig, name_variant
from evm_deploy.models.vmamba.names import explain_form, infer_config, rename
from evm_deploy.models.vmamba.network import VMamba, fold


def _name_outputs(config: VMambaConfig) -> list[str] | None:
    """A backbone's maps are named after their stages."""
    return [f"feature{stage}" for stage in config.outputs] if config.num_classes is None else None


def _list_maps(config: VMambaConfig) -> tuple[FeatureMap, ...]:
    stages = config.outputs if config.num_classes is None else ()
    return tuple(FeatureMap(SMALLEST << stage, config.dims[stage]) for stage in stages)


FAMILY = Family(
    title="VMamba",
    network=VMamba,
    stem=STEM,
    rename=rename,
    infer_config=infer_config,
    explain=explain_ends,
    explain_form=explain_form,
    fold=fold,
    fold_preprocessing=None,  # the newer stem pads the normalised image with zeros
    name_outputs=_name_outputs,
    name_variant=name_variant,
    blocks=re.compile(r"patch_embed|layers\.\d+\.(blocks\.\d+|downsample)|classifier"),
    scan_values=SCAN_PARAMETERS,
    list_maps=_list_maps,
)
