"""The blocks of EfficientVMamba, with the parameter names of the released checkpoints. Maps are (B, H, W, C)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evm_deploy.models.efficientvmamba.config import ModelConfig
from evm_deploy.models.layers.maps import run_convolution
from evm_deploy.models.layers.scan_mixer import ScanMixer


class ChannelAttention(nn.Module):
    """Scales each channel of a map by a gate computed from the mean of its normalised form."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.global_reduce = nn.Linear(dim, max(1, dim // 8))
        self.channel_select = nn.Linear(max(1, dim // 8), dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        pooled = self.norm(x).mean((1, 2), keepdim=True)  # (B, 1, 1, C)
        return x * torch.sigmoid(self.channel_select(F.gelu(self.global_reduce(pooled))))


class EVSSBlock(nn.Module):
    """x + se(op(n)) + se(conv_branch(n)) with n = norm(x); `se` is one module that both branches share."""

    def __init__(self, config: ModelConfig, stage: int) -> None:
        super().__init__()
        C = config.dims[stage]
        self.norm = nn.LayerNorm(C)
        self.op = ScanMixer(
            C, 2 * C, config.d_state, config.rank(stage), config.directions, kind=config.scan, step=config.step
        )
        self.conv_branch: nn.Module | None = None
        if config.conv_branch:
            depthwise = nn.Conv2d(C, C, 3, padding=1, groups=C)
            self.conv_branch = nn.Sequential(depthwise, nn.BatchNorm2d(C), nn.GELU(), nn.Conv2d(C, C, 1))
        self.se = ChannelAttention(C)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        n = self.norm(x)
        y: Tensor = x + self.se(self.op(n))
        if self.conv_branch is not None:
            y = y + self.se(run_convolution(self.conv_branch, n))
        return y


class SqueezeExcite(nn.Module):
    """Scales each channel of an NCHW map by a gate computed from its mean."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv_reduce = nn.Conv2d(dim, max(1, dim // 8), 1)
        self.conv_expand = nn.Conv2d(max(1, dim // 8), dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        pooled = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.conv_expand(F.relu(self.conv_reduce(pooled))))


class InvertedResidual(nn.Module):
    """Expand by 4, depthwise 3x3, squeeze and excite, project, add; the one block that works on NCHW."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        mid = 4 * dim
        self.conv_pw = nn.Sequential(nn.Conv2d(dim, mid, 1, bias=False), nn.BatchNorm2d(mid), nn.ReLU())
        depthwise = nn.Conv2d(mid, mid, 3, padding=1, groups=mid, bias=False)
        self.conv_dw = nn.Sequential(depthwise, nn.BatchNorm2d(mid), nn.ReLU())
        self.se = SqueezeExcite(mid)
        self.conv_pw2 = nn.Sequential(nn.Conv2d(mid, dim, 1, bias=False), nn.BatchNorm2d(dim))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        y: Tensor = x + self.conv_pw2(self.se(self.conv_dw(self.conv_pw(x))))
        return y
