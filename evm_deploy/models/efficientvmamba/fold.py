"""Exact rewrites of a trained network for inference. Each returns a new network; the given one is not touched."""

import copy
import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from evm_deploy.models.batch_norms import fold_batch_norm
from evm_deploy.models.efficientvmamba.blocks import EVSSBlock, ScanMixer
from evm_deploy.models.efficientvmamba.network import EfficientVMamba

SCAN_PARAMETERS = ("x_proj", "dt_proj", "dt_bias", "A", "D")  # as `ScanMixer.scan_parameters` orders them


def fold(model: EfficientVMamba) -> EfficientVMamba:
    """The same function with fewer operations: (B, 3, H, W) -> what `model` in eval mode returns, to rounding.

    BatchNorm goes into the convolution before it, and the scan's parameters become constants in the layout of the
    operators. Folding is done in float64. The result is for inference: in eval mode, without gradients.
    """
    folded = copy.deepcopy(model).eval().requires_grad_(False)
    for module in list(folded.modules()):
        if isinstance(module, nn.Sequential):
            _fold_batch_norms(module)
        if isinstance(module, EVSSBlock) and not isinstance(module.op, FoldedMixer):
            module.op = FoldedMixer(module.op)
    return folded


def fold_preprocessing(model: EfficientVMamba, mean: Sequence[float], std: Sequence[float]) -> EfficientVMamba:
    """`model` for pixels in 0..255 instead of (pixel / 255 - mean) / std. The stem has no padding, so this is exact."""
    folded = copy.deepcopy(model)
    stem = folded.patch_embed[0]
    assert isinstance(stem, nn.Conv2d)
    assert stem.bias is not None
    means, stds = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (mean, std))
    weight = stem.weight.detach().double() / stds  # (C, 3, 4, 4)
    bias = stem.bias.detach().double() - (weight * means).sum((1, 2, 3))
    stem.weight.data, stem.bias.data = (weight / 255).to(stem.weight.dtype), bias.to(stem.bias.dtype)
    return folded


class FoldedMixer(ScanMixer):
    """A `ScanMixer` whose scan parameters are constants, already as the operators take them."""

    def __init__(self, mixer: ScanMixer) -> None:
        nn.Module.__init__(self)
        self.kind, self.step = mixer.kind, mixer.step
        for name, value in zip(SCAN_PARAMETERS, mixer.scan_parameters(), strict=True):
            self.register_buffer(name, value.detach().contiguous())
        for name, module in mixer.named_children():
            if name != "in_proj":
                self.add_module(name, module)
        x_weight, z_weight = mixer.in_proj.weight.chunk(2)  # (D, C) each
        self.in_x, self.in_z = _linear(x_weight), _linear(z_weight)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """As `ScanMixer.project`, without the copy that cutting one result in two takes (3 % of T)."""
        return self.in_x(x), self.in_z(x)

    def scan_parameters(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """As `ScanMixer.scan_parameters`."""
        # not get_buffer: while torch.export traces, they are no tensors
        x_proj, dt_proj, dt_bias, A, D = (getattr(self, name) for name in SCAN_PARAMETERS)
        return x_proj, dt_proj, dt_bias, A, D

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "FoldedMixer":
        """Where torch moves and converts a module: the constants of the recurrence move, and stay float32."""
        kept = {name: self.get_buffer(name) for name in SCAN_PARAMETERS[2:]}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, value in kept.items():
            setattr(self, name, value.to(self.get_buffer(name).device))
        return self


def _linear(weight: Tensor) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    linear.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    return linear


def _fold_batch_norms(sequence: nn.Sequential) -> None:
    """Replace each convolution that a BatchNorm follows, and take the BatchNorm out."""
    layers = list(sequence)
    for i, (conv, norm) in enumerate(itertools.pairwise(layers)):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            sequence[i] = fold_batch_norm(conv, norm)
    for i in reversed(range(len(layers))):
        if isinstance(layers[i], nn.BatchNorm2d):
            del sequence[i]
