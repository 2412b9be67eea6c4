"""The backbone before a head: which family it is of, and what maps it gives."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from evm_deploy.errors import OptionError
from evm_deploy.models.families import FAMILIES
from evm_deploy.models.family import Family, FeatureMap, UnsupportedNetwork
from evm_deploy.models.heads.shapes import list_names
from evm_deploy.models.refusals import count_misfits

PREFIX = "backbone."
BACKBONES = {family.title: family for family in FAMILIES if family.list_maps is not None}
BLOCKS = rf"{re.escape(PREFIX)}(?:{'|'.join(family.blocks.pattern for family in BACKBONES.values())})"
SCANS = tuple(dict.fromkeys(scan for family in BACKBONES.values() for scan in family.scans))


def rename(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a head and its backbone, the latter under their released names."""
    found = _match(list_names(tensors, PREFIX), None)
    head = {name: tensor for name, tensor in tensors.items() if not name.startswith(PREFIX)}
    return head | {PREFIX + name: tensor for name, tensor in found[1].items()}


def infer_backbone(tensors: Mapping[str, Tensor], scan: str | None) -> tuple[str, Any]:
    """The title of the family, and the configuration, of the backbone among the tensors.

    Raises UnsupportedNetwork: it is of no family, or gives no maps; OptionError: it has no such scan.
    """
    part = list_names(tensors, PREFIX)
    family, _, config = _match(part, scan)
    if family is None:
        raise UnsupportedNetwork(_explain(part))
    if scan is not None and scan not in family.scans:
        raise OptionError(f"{family.title} has no scan {scan!r}.", "leave the scan out.")
    return family.title, config


def build_backbone(title: str, config: Any) -> nn.Module:
    """The network of the configuration, of the family with this title."""
    return BACKBONES[title].network(config)


def list_maps(title: str, config: Any) -> tuple[FeatureMap, ...]:
    """The maps that it gives, the finest first."""
    find = BACKBONES[title].list_maps
    assert find is not None
    return find(config)


def fold_backbone(title: str, backbone: nn.Module) -> nn.Module:
    """The same function for inference, as its family folds it, on a copy."""
    return BACKBONES[title].fold(backbone)


def explain_form(content: Any, config: Any) -> str | None:
    """What a file says of the backbone of a head's configuration, as `Family.explain_form` does."""
    explain = BACKBONES[config.backbone_family].explain_form
    return explain(content, config.backbone) if explain is not None else None


def _match(part: Mapping[str, Tensor], scan: str | None) -> tuple[Family | None, dict[str, Tensor], Any]:
    """The family whose backbone the tensors are, their released names, and its configuration; None: they are none's."""
    for family in BACKBONES.values():
        renamed = family.rename(dict(part))
        config = family.infer_config(renamed, scan if scan in family.scans else None)
        if not isinstance(config, list) and not any(_compare(family, config, renamed)):
            return family, renamed, config
    return None, dict(part), None


def _compare(family: Family, config: Any, tensors: Mapping[str, Tensor]) -> tuple[list[str], list[str], list[str]]:
    """What a backbone of the configuration has and the tensors lack, the other way round, and what differs in shape."""
    assert family.list_maps is not None
    with torch.device("meta"):
        expected = family.network(config).state_dict()
    needed = [name for name in expected if not name.endswith("num_batches_tracked")]  # which has no part in inference
    if not family.list_maps(config):  # a classifier: nothing normalises maps
        return ["outnorm0.weight"], [], []
    missing = [name for name in needed if name not in tensors]
    unexpected = [name for name in tensors if name not in expected]
    wrong = [name for name in expected if name in tensors and tensors[name].shape != expected[name].shape]
    return missing, unexpected, wrong


def _explain(part: Mapping[str, Tensor]) -> str:
    """Why these tensors are no backbone, as "a RetinaNet, but" goes on."""
    for family in FAMILIES:
        if family.list_maps is None and any(family.stem.match(name) for name in part):
            return f"its backbone is a {family.title}, which gives no feature maps"
    misfits = []
    for family in BACKBONES.values():
        renamed = family.rename(dict(part))
        config = family.infer_config(renamed, None)
        if not isinstance(config, list):
            groups = _compare(family, config, renamed)
            misfits.append((sum(map(len, groups)), count_misfits(*groups)))
    counted = f": {min(misfits)[1]}" if misfits else ""
    return f"its backbone is no {' or '.join(BACKBONES)} that gives feature maps{counted}"
