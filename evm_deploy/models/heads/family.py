"""The row of a head in the table of heads: a family whose networks hold a backbone of another."""

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from evm_deploy.models.family import Family
from evm_deploy.models.heads import backbones
from evm_deploy.models.heads.settings import ChosenNumber, apply_settings
from evm_deploy.models.last_steps import LastSteps
from evm_deploy.models.layers.scan_mixer import SCAN_PARAMETERS

UNUSED = re.compile(r"(auxiliary_head|data_preprocessor)\.")  # of training, and the mean and deviation of some forks


def make_head(
    title: str,
    network: type[nn.Module],
    stem: re.Pattern[str],
    infer_config: Callable[[dict[str, Tensor], str | None], Any],
    name_outputs: Callable[[Any], list[str]],
    last_steps: LastSteps,
    *,
    blocks: str,
    list_fixed: Callable[[Any], Mapping[str, Any]],
    chosen: Sequence[ChosenNumber] = (),
    fold_head: Callable[[Any], None] = lambda model: None,
) -> Family:
    """The row; see `Family`, and `apply_settings` for what the text of a configuration can say.

    blocks: of the head; fold_head: folds what is not the backbone, in place.
    """

    def fold(model: Any) -> nn.Module:
        folded = copy.deepcopy(model).eval().requires_grad_(False)
        folded.backbone = backbones.fold_backbone(model.config.backbone_family, folded.backbone)
        fold_head(folded)
        return folded  # type: ignore[no-any-return]

    return Family(
        last_steps=last_steps,
        title=title,
        network=network,
        stem=stem,
        rename=backbones.rename,
        infer_config=infer_config,
        explain=lambda tensors: None,
        explain_form=backbones.explain_form,
        fold=fold,
        fold_preprocessing=None,  # the normalised image is padded
        name_outputs=name_outputs,
        name_variant=lambda config: None,
        blocks=re.compile(f"{backbones.BLOCKS}|{blocks}"),
        scan_values=SCAN_PARAMETERS,
        scans=backbones.SCANS,
        unused=UNUSED,
        apply_settings=lambda config, content: apply_settings(config, content, list_fixed, chosen),
    )
