"""EfficientVMamba: stem, stages, and a classifier or feature maps."""

from torch import Tensor, nn

from evm_deploy.models.efficientvmamba.blocks import EVSSBlock, InvertedResidual
from evm_deploy.models.efficientvmamba.config import ModelConfig
from evm_deploy.models.layers.maps import (
    Classifier,
    PatchMerging,
    Permute,
    Stage,
    collect_features,
    initialise,
    normalise_features,
)

PATCH = 4


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
            if kind == "evss":
                self.layers.append(Stage([EVSSBlock(config, i) for _ in range(config.depths[i])], downsample))
            else:
                self.layers.append(InvertedResidualStage(config, i, downsample))
        if config.num_classes is not None:
            self.classifier = Classifier(dims[-1], config.num_classes)
        else:
            for i in config.outputs:
                self.add_module(f"outnorm{i}", nn.LayerNorm(dims[i]))
        self.apply(initialise)

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> each stage's (B, h, w, C) before its downsample, not normalised."""
        return collect_features(self.patch_embed, self.layers, x)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """(B, 3, H, W) -> logits (B, num_classes); of a backbone, the normalised (B, C, h, w) maps of its stages.

        Raises:
            InputError: x is not a batch of RGB images of at least 4 by 4 pixels.
        """
        features = self.forward_features(x)
        if self.config.num_classes is not None:
            logits: Tensor = self.classifier(features[-1])
            return logits
        return normalise_features(self, features, self.config.outputs)


def count_parameters(model: nn.Module) -> int:
    """The number of learnt values of `model`."""
    return sum(p.numel() for p in model.parameters())
