"""VMamba: stem, stages, and a classifier or feature maps. Maps are (B, H, W, C)."""

import copy

import torch.nn.functional as F
from torch import Tensor, nn

from evm_deploy.models.layers.maps import (
    Classifier,
    PatchMerging,
    Permute,
    Stage,
    collect_features,
    initialise,
    normalise_features,
)
from evm_deploy.models.layers.scan_mixer import FoldedScanMixer, ScanMixer
from evm_deploy.models.vmamba.config import DOWNSAMPLES, VMambaConfig

DIRECTIONS = 4  # row by row, column by column, and the reverse of both


class MLP(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        y: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return y


class VSSBlock(nn.Module):
    """x + op(norm(x)), and where there is an MLP x + mlp(norm2(x)) after it."""

    def __init__(self, config: VMambaConfig, stage: int) -> None:
        super().__init__()
        C, D, N, R = config.dims[stage], config.channels(stage), config.d_state, config.rank(stage)
        self.norm = nn.LayerNorm(C)
        self.op = ScanMixer(C, D, N, R, DIRECTIONS, gate=config.gate, conv_bias=config.conv_bias)
        self.mlp: nn.Module | None = None
        if config.mlp is not None:
            self.norm2 = nn.LayerNorm(C)
            self.mlp = MLP(C, config.mlp * C)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        x = x + self.op(self.norm(x))
        return x if self.mlp is None else x + self.mlp(self.norm2(x))


class VMamba(nn.Module):
    """The network of `config`, with the parameter names and shapes of the released checkpoints."""

    def __init__(self, config: VMambaConfig) -> None:
        super().__init__()
        self.config = config
        dims = config.dims
        self.patch_embed = _make_stem(config)
        self.layers = nn.ModuleList()
        for i, depth in enumerate(config.depths):
            downsample = _make_downsample(config, i) if i + 1 < len(dims) else nn.Identity()
            self.layers.append(Stage([VSSBlock(config, i) for _ in range(depth)], downsample))
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

        Raises InputError: x is not a batch of RGB images of at least 4 by 4 pixels.
        """
        features = self.forward_features(x)
        if self.config.num_classes is not None:
            logits: Tensor = self.classifier(features[-1])
            return logits
        return normalise_features(self, features, self.config.outputs)


def fold(model: VMamba) -> VMamba:
    """The same function for inference: the scans' parameters are constants in the layout of the operators.

    (B, 3, H, W) -> what `model` in eval mode returns, to rounding.
    """
    folded = copy.deepcopy(model).eval().requires_grad_(False)
    for module in list(folded.modules()):
        if isinstance(module, VSSBlock) and not isinstance(module.op, FoldedScanMixer):
            module.op = FoldedScanMixer(module.op)
    return folded


def _make_stem(config: VMambaConfig) -> nn.Sequential:
    """Four by four pixels become one token, by one convolution or by two of stride 2."""
    C = config.dims[0]
    if config.stem == "4x4":
        return nn.Sequential(nn.Conv2d(3, C, 4, stride=4), Permute(0, 2, 3, 1), nn.LayerNorm(C))
    half = C // 2
    first = (nn.Conv2d(3, half, 3, stride=2, padding=1), Permute(0, 2, 3, 1), nn.LayerNorm(half), Permute(0, 3, 1, 2))
    second = (nn.Conv2d(half, C, 3, stride=2, padding=1), Permute(0, 2, 3, 1), nn.LayerNorm(C))
    return nn.Sequential(*first, nn.GELU(), *second)


def _make_downsample(config: VMambaConfig, stage: int) -> nn.Module:
    """Halves H and W: (B, H, W, C) -> (B, h, w, C of the next stage)."""
    dim, out_dim = config.dims[stage : stage + 2]
    if config.downsample == "merge":
        return PatchMerging(dim, out_dim)
    kernel = DOWNSAMPLES[config.downsample]
    conv = nn.Conv2d(dim, out_dim, kernel, stride=2, padding=(kernel - 1) // 2)
    return nn.Sequential(Permute(0, 3, 1, 2), conv, Permute(0, 2, 3, 1), nn.LayerNorm(out_dim))
