"""The blocks of EfficientVMamba, with the parameter names of the released checkpoints. Maps are (B, H, W, C)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import statically_known_true

from evm_deploy import scan
from evm_deploy.models.efficientvmamba.config import ModelConfig
from evm_deploy.scan.cross_scan import cross_scan_2d


class ScanMixer(nn.Module):
    """Gated mixing of tokens: a depthwise convolution and the two-dimensional selective scan, times SiLU(z)."""

    def __init__(self, config: ModelConfig, stage: int) -> None:
        super().__init__()
        C, N, R, K = config.dims[stage], config.d_state, config.rank(stage), config.directions
        D = 2 * C
        self.kind, self.step = config.scan, config.step
        self.in_proj = nn.Linear(C, 2 * D, bias=False)
        self.conv2d = nn.Conv2d(D, D, 3, padding=1, groups=D)
        self.x_proj_weight = nn.Parameter(torch.empty(K, R + 2 * N, D).uniform_(-(D**-0.5), D**-0.5))
        self.dt_projs_weight = nn.Parameter(torch.empty(K, D, R).uniform_(-(R**-0.5), R**-0.5))
        self.dt_projs_bias = nn.Parameter(_inverse_softplus_of_steps(K, D))
        self.A_logs = nn.Parameter(torch.arange(1.0, N + 1).log().repeat(K * D, 1))  # S4D-real
        self.Ds = nn.Parameter(torch.ones(K * D))
        self.out_norm = nn.LayerNorm(D)
        self.out_proj = nn.Linear(D, C, bias=False)

    def scan_parameters(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """x_proj (K,D,R+2N), dt_proj (K,R,D), dt_bias (K,D), A (K,N,D) and D (K,D), as the operators take them."""
        K, D, _ = self.dt_projs_weight.shape
        A = -self.A_logs.float().exp().view(K, D, -1).transpose(1, 2)
        x_proj, dt_proj = self.x_proj_weight.transpose(1, 2), self.dt_projs_weight.transpose(1, 2)
        return x_proj, dt_proj, self.dt_projs_bias.float(), A, self.Ds.float().view(K, D)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What is scanned, and what gates it: (B, H, W, C) -> twice (B, H, W, D)."""
        x, z = self.in_proj(x).chunk(2, -1)
        return x, z

    def scan(self, x: Tensor) -> Tensor:
        """The scan alone: (B, H, W, D) -> (B, H, W, D)."""
        x_proj, dt_proj, dt_bias, A, D = self.scan_parameters()
        x_proj, dt_proj = x_proj.to(x.dtype), dt_proj.to(x.dtype)  # they differ under autocast only
        if self.kind == "ss2d":
            return cross_scan_2d(x, x_proj, dt_proj, dt_bias, A, D)
        y: Tensor = scan.efficient_scan_2d(x, x_proj, dt_proj, dt_bias, A, D, self.step)
        return y

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        x, z = self.project(x)
        x = F.silu(_conv(self.conv2d, x))
        y: Tensor = self.out_proj(self.out_norm(self.scan(x)) * F.silu(z))
        return y


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
        self.op = ScanMixer(config, stage)
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
            y = y + self.se(_conv(self.conv_branch, n))
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


def _conv(module: nn.Module, x: Tensor) -> Tensor:
    """Run an NCHW module on an NHWC map."""
    y: Tensor = module(x.permute(0, 3, 1, 2))
    return y.permute(0, 2, 3, 1)


def _inverse_softplus_of_steps(*shape: int) -> Tensor:
    """Biases whose softplus is log-uniform in [1e-3, 1e-1]."""
    steps = torch.empty(shape).uniform_(math.log(1e-3), math.log(1e-1)).exp()
    return steps + torch.log(-torch.expm1(-steps))
