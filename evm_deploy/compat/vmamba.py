"""What VMamba and repositories made of it have beside the compiled scans."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from evm_deploy.compat.scan_extensions import Given
from evm_deploy.scan.interface import selective_scan_fn


def scan_in_order_of_vmamba(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Given = None,
    delta_bias: Given = None,
    delta_softplus: bool = False,
    *others: Any,
    **options: Any,
) -> Any:
    """`selective_scan_fn` of the package `selective_scan`, which has no gate."""
    return selective_scan_fn(u, delta, A, B, C, D, delta_bias, bool(delta_softplus), *others, **options)


class DepthwiseFunction:
    """Spatial-Mamba's depthwise convolution."""

    @staticmethod
    def apply(x: Tensor, weight: Tensor, bias: Given, padding_h: int, padding_w: int, *_: Any) -> Tensor:
        """x (batch, channels, H, W), weight (channels, 1, h, w)."""
        return F.conv2d(x, weight, bias, padding=(padding_h, padding_w), groups=x.shape[1])
