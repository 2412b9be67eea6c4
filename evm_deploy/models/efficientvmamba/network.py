"""EfficientVMamba: stem, stages, and a classifier or feature maps."""

import torch
from torch import Tensor, nn

from evm_deploy.errors import InputError
from evm_deploy.models.efficientvmamba.blocks import EVSSBlock, InvertedResidual, PatchMerging
from evm_deploy.models.efficientvmamba.config import ModelConfig

PATCH = 4


class Permute(nn.Module):
    """A change of layout that takes a place in a Sequential."""

    def __init__(self, *order: int) -> None:
        super().__init__()
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        """The dimensions of x in the given order."""
        return x.permute(self.order)


class EVSSStage(nn.Module):
    """EVSS blocks, then the downsample."""

    def __init__(self, config: ModelConfig, stage: int, downsample: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*[EVSSBlock(config, stage) for _ in range(config.depths[stage])])
        self.downsample = downsample

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, H, W, C) -> what the blocks give, and the same after the downsample."""
        y = self.blocks(x)
        return y, self.downsample(y)


class InvertedResidualStage(nn.Sequential):
    """Inverted residual blocks between two changes of layout, then the downsample: indices as in the checkpoints."""

    def __init__(self, config: ModelConfig, stage: int, downsample: nn.Module) -> None:
        blocks = [InvertedResidual(config.dims[stage]) for _ in range(config.depths[stage])]
        super().__init__(Permute(0, 3, 1, 2), *blocks, Permute(0, 2, 3, 1), downsample)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, H, W, C) -> what the blocks give, and the same after the downsample."""
        *blocks, downsample = self
        for block in blocks:
            x = block(x)
        return x, downsample(x)


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


class EfficientVMamba(nn.Module):
    """The network of `config`, with the parameter names and shapes of the released checkpoints."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        dims = config.dims
        self.patch_embed = nn.Sequential(
            nn.Conv2d(3, dims[0], PATCH, stride=PATCH), Permute(0, 2, 3, 1), nn.LayerNorm(dims[0])
        )
        self.layers = nn.ModuleList()
        for i, kind in enumerate(config.blocks):
            downsample = PatchMerging(dims[i], dims[i + 1]) if i + 1 < len(dims) else nn.Identity()
            stage = EVSSStage if kind == "evss" else InvertedResidualStage
            self.layers.append(stage(config, i, downsample))
        if config.num_classes is not None:
            self.classifier = Classifier(dims[-1], config.num_classes)
        else:
            for i in config.outputs:
                self.add_module(f"outnorm{i}", nn.LayerNorm(dims[i]))
        self.apply(_initialise)

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> each stage's (B, h, w, C) before its downsample, not normalised."""
        if not torch.compiler.is_compiling():  # a traced graph must not depend on the example's size
            _check_image(x)
        x = self.patch_embed(x)
        features = []
        for stage in self.layers:
            feature, x = stage(x)
            features.append(feature)
        return features

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """(B, 3, H, W) -> logits (B, num_classes); of a backbone, the normalised (B, C, h, w) maps of its stages.

        Raises:
            InputError: x is not a batch of RGB images of at least 4 by 4 pixels.
        """
        features = self.forward_features(x)
        if self.config.num_classes is not None:
            logits: Tensor = self.classifier(features[-1])
            return logits
        norms = {i: self.get_submodule(f"outnorm{i}") for i in self.config.outputs}
        return tuple(norm(features[i]).permute(0, 3, 1, 2).contiguous() for i, norm in norms.items())


def count_parameters(model: nn.Module) -> int:
    """The number of learnt values of `model`."""
    return sum(p.numel() for p in model.parameters())


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _check_image(x: Tensor) -> None:
    if x.ndim != 4 or x.shape[1] != 3 or min(x.shape[2:]) < PATCH:
        raise InputError(
            f"The network cannot read an input of shape {tuple(x.shape)}.",
            f"Pass images as (batch, 3, height, width), with height and width of at least {PATCH}.",
        )
