"""Layers of maps that are (B, H, W, C): changes of layout, downsampling, stages and the classifier."""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import statically_known_true

from evm_deploy.errors import InputError

SMALLEST = 4  # pixels: what the first convolutions make one token of


class Permute(nn.Module):
    """A change of layout that takes a place in a Sequential."""

    def __init__(self, *order: int) -> None:
        super().__init__()
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        """The dimensions of x in the given order."""
        return x.permute(self.order)


def run_convolution(module: nn.Module, x: Tensor) -> Tensor:
    """Runs an NCHW module on an NHWC map."""
    y: Tensor = module(x.permute(0, 3, 1, 2))
    return y.permute(0, 2, 3, 1)


class PatchMerging(nn.Module):
    """Halves H and W (rounding up): four neighbours become one token of `out_dim` channels."""

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, out_dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, ceil(H/2), ceil(W/2), out_dim)."""
        B, H, W, C = x.shape
        h, w = (H + 1) // 2, (W + 1) // 2
        if not statically_known_true(2 * h + 2 * w == H + W):
            x = F.pad(x, (0, 0, 0, 2 * w - W, 0, 2 * h - H))
        x = x.reshape(B * h, 2, w, 2, C)  # (.., row, .., column, C); rank 5 is the most that Core ML takes
        x = x.permute(0, 2, 3, 1, 4).reshape(B, h, w, 4 * C)
        y: Tensor = self.reduction(self.norm(x))
        return y


class Stage(nn.Module):
    """Blocks, then the downsample."""

    def __init__(self, blocks: Sequence[nn.Module], downsample: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.downsample = downsample

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, H, W, C) -> what the blocks give, and the same after the downsample."""
        y = self.blocks(x)
        return y, self.downsample(y)


class Classifier(nn.Module):
    """LayerNorm of each token, their mean, and one linear layer."""

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, num_classes)."""
        logits: Tensor = self.head(self.norm(x).mean((1, 2)))
        return logits


def collect_features(stem: nn.Module, stages: Iterable[nn.Module], x: Tensor) -> list[Tensor]:
    """(B, 3, H, W) -> each stage's (B, h, w, C) before its downsample. Raises what `check_image` does."""
    if not torch.compiler.is_compiling():  # a traced graph must not depend on the example's size
        check_image(x)
    x = stem(x)
    features = []
    for stage in stages:
        feature, x = stage(x)
        features.append(feature)
    return features


def normalise_features(network: nn.Module, features: Sequence[Tensor], outputs: Sequence[int]) -> tuple[Tensor, ...]:
    """The maps of these stages by the backbone's `outnorm0`, `outnorm1`, ..., as (B, C, h, w)."""
    norms = {i: network.get_submodule(f"outnorm{i}") for i in outputs}
    return tuple(norm(features[i]).permute(0, 3, 1, 2).contiguous() for i, norm in norms.items())


def initialise(module: nn.Module) -> None:
    """Gives a linear layer the weights that training starts from; for `nn.Module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def check_image(x: Tensor) -> None:
    """Raises InputError: x is not a batch of RGB images of at least 4 by 4 pixels."""
    if x.ndim != 4 or x.shape[1] != 3 or min(x.shape[2:]) < SMALLEST:
        raise InputError(
            f"The network cannot read an input of shape {tuple(x.shape)}.",
            f"Pass images as (batch, 3, height, width), with height and width of at least {SMALLEST}.",
        )
