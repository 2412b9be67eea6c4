"""Exact rewrites of a trained Vim for inference. Each returns a new network; the given one is not touched."""

import copy
from collections.abc import Sequence

from torch import Tensor, nn

from evm_deploy.models.layers.scan_mixer import SCAN_PARAMETERS, Convert, fold_stem, make_linear, restore_float32
from evm_deploy.models.vim.network import Block, ScanParameters, Vim, VimMixer


def fold(model: Vim) -> Vim:
    """The same function with fewer operations: (B, 3, H, W) -> what `model` in eval mode returns, to rounding."""
    folded = copy.deepcopy(model).eval().requires_grad_(False)
    for module in list(folded.modules()):
        if isinstance(module, Block) and not isinstance(module.mixer, FoldedVimMixer):
            module.mixer = FoldedVimMixer(module.mixer)
    return folded


def fold_preprocessing(model: Vim, mean: Sequence[float], std: Sequence[float]) -> Vim:
    """`model` for pixels in 0..255 instead of (pixel / 255 - mean) / std. The stem has no padding, so this is exact."""
    folded = copy.deepcopy(model)
    fold_stem(folded.patch_embed.proj, mean, std)
    return folded


class FoldedVimMixer(VimMixer):
    """A `VimMixer` whose parameters are constants, as the operator takes them; out_proj halves the sum."""

    def __init__(self, mixer: VimMixer) -> None:
        nn.Module.__init__(self)
        for name, value in zip(SCAN_PARAMETERS, mixer.scan_parameters(), strict=True):
            self.register_buffer(name, value.detach().contiguous())
        x_weight, z_weight = mixer.in_proj.weight.chunk(2)  # (D, C) each
        self.in_x, self.in_z = make_linear(x_weight), make_linear(z_weight)
        self.out_proj = make_linear(mixer.out_proj.weight / 2)
        weight, bias = mixer.conv_parameters()
        self.register_buffer("conv_weight", weight.detach().contiguous())
        self.register_buffer("conv_bias", bias.detach())

    def project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """As `VimMixer.project`, without the copy that cutting one result in two takes."""
        return self.in_x(x), self.in_z(x)

    def conv_parameters(self) -> tuple[Tensor, Tensor]:
        """As `VimMixer.conv_parameters`."""
        weight, bias = (getattr(self, name) for name in ("conv_weight", "conv_bias"))  # see `scan_parameters`
        return weight, bias

    def merge(self, y: Tensor) -> Tensor:
        """As `VimMixer.merge`."""
        merged: Tensor = self.out_proj(y)
        return merged

    def scan_parameters(self) -> ScanParameters:
        """As `VimMixer.scan_parameters`."""
        # not get_buffer: while torch.export traces, they are no tensors
        x_proj, dt_proj, dt_bias, A, D = (getattr(self, name) for name in SCAN_PARAMETERS)
        return x_proj, dt_proj, dt_bias, A, D

    def _apply(self, fn: Convert, recurse: bool = True) -> "FoldedVimMixer":
        """Where torch moves and converts a module: the constants of the recurrence move, and stay float32."""
        kept = {name: self.get_buffer(name) for name in SCAN_PARAMETERS[2:]}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        restore_float32(self, kept)
        return self
