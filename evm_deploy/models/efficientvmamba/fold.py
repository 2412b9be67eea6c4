"""Exact rewrites of a trained network for inference. Each returns a new network; the given one is not touched."""

import copy
import itertools
from collections.abc import Sequence

from torch import nn

from evm_deploy.models.batch_norms import fold_batch_norm
from evm_deploy.models.efficientvmamba.blocks import EVSSBlock
from evm_deploy.models.efficientvmamba.network import EfficientVMamba
from evm_deploy.models.layers.scan_mixer import FoldedScanMixer, fold_stem


def fold(model: EfficientVMamba) -> EfficientVMamba:
    """The same function with fewer operations: (B, 3, H, W) -> what `model` in eval mode returns, to rounding.

    BatchNorm goes into the convolution before it, and the scan's parameters become constants in the layout of the
    operators. Folding is done in float64. The result is for inference: in eval mode, without gradients.
    """
    folded = copy.deepcopy(model).eval().requires_grad_(False)
    for module in list(folded.modules()):
        if isinstance(module, nn.Sequential):
            _fold_batch_norms(module)
        if isinstance(module, EVSSBlock) and not isinstance(module.op, FoldedScanMixer):
            module.op = FoldedScanMixer(module.op)
    return folded


def fold_preprocessing(model: EfficientVMamba, mean: Sequence[float], std: Sequence[float]) -> EfficientVMamba:
    """`model` for pixels in 0..255 instead of (pixel / 255 - mean) / std. The stem has no padding, so this is exact."""
    folded = copy.deepcopy(model)
    stem = folded.patch_embed[0]
    assert isinstance(stem, nn.Conv2d)
    fold_stem(stem, mean, std)
    return folded


def _fold_batch_norms(sequence: nn.Sequential) -> None:
    """Replace each convolution that a BatchNorm follows, and take the BatchNorm out."""
    layers = list(sequence)
    for i, (conv, norm) in enumerate(itertools.pairwise(layers)):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            sequence[i] = fold_batch_norm(conv, norm)
    for i in reversed(range(len(layers))):
        if isinstance(layers[i], nn.BatchNorm2d):
            del sequence[i]
