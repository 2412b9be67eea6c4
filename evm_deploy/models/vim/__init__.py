"""Vim (arXiv 2401.09417) with its class token in the middle: configuration, network, names, exact folding."""

import re

from evm_deploy.models.family import Family
from evm_deploy.models.layers.scan_mixer import SCAN_PARAMETERS
from evm_deploy.models.vim.config import VimConfig, name_variant
from evm_deploy.models.vim.fold import fold, fold_preprocessing
from evm_deploy.models.vim.names import STEM, apply_image_size, explain, infer_config, rename
from evm_deploy.models.vim.network import Vim


def _name_outputs(config: VimConfig) -> list[str] | None:
    return None


FAMILY = Family(
    title="Vim",
    network=Vim,
    stem=STEM,
    rename=rename,
    infer_config=infer_config,
    explain=explain,
    fold=fold,
    fold_preprocessing=fold_preprocessing,
    name_outputs=_name_outputs,
    name_variant=name_variant,
    blocks=re.compile(r"patch_embed|layers\.\d+|head"),
    scan_values=SCAN_PARAMETERS,
    apply_settings=apply_image_size,
)
