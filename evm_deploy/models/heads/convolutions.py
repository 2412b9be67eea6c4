"""A convolution with what follows it, by the names that mmcv gives them."""

import torch.nn.functional as F
from torch import Tensor, nn

from evm_deploy.models.batch_norms import fold_batch_norm


class ConvUnit(nn.Module):
    """A convolution that keeps the size, then BatchNorm and ReLU where there are."""

    def __init__(self, in_channels: int, channels: int, kernel: int, *, norm: bool = False, relu: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel, padding=kernel // 2, bias=not norm)
        if norm:
            self.bn: nn.Module = nn.BatchNorm2d(channels)
        self.norm, self.relu = norm, relu

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, h, w) -> (B, channels, h, w)."""
        x = self.conv(x)
        x = self.bn(x) if self.norm else x
        return F.relu(x) if self.relu else x

    def fold(self) -> None:
        """Takes the BatchNorm into the convolution, for inference."""
        if self.norm:
            assert isinstance(self.bn, nn.BatchNorm2d)
            self.conv, self.norm = fold_batch_norm(self.conv, self.bn), False
            del self.bn


def make_tower(in_channels: int, channels: int, depth: int) -> nn.Sequential:
    """So many 3x3 convolutions with ReLU, one after the other."""
    return nn.Sequential(*(ConvUnit(channels if i else in_channels, channels, 3) for i in range(depth)))
