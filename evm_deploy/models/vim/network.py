"""Vim: patches and a class token in their middle, blocks that scan them forwards and backwards, and a classifier."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evm_deploy import scan
from evm_deploy.errors import InputError
from evm_deploy.models.layers.maps import initialise
from evm_deploy.models.layers.scan_mixer import inverse_softplus_of_steps
from evm_deploy.models.vim.config import VimConfig
from evm_deploy.scan.orders import make_two_way_order, number_tokens

EPSILON = 1e-5
ScanParameters = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + 1e-5) * weight, of the last axis; in float32, whatever it takes."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C), in the dtype of the weight."""
        # Written out, for a converter rounds eps of the fused operation; and so that onnxruntime knows it as one.
        size = torch.sqrt(x.float().square().mean(-1, keepdim=True) + EPSILON)
        return (x.float() / size).to(self.weight.dtype) * self.weight


class PatchEmbed(nn.Module):
    """One convolution: images to patches, row by row."""

    def __init__(self, config: VimConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, config.dim, config.patch, stride=config.stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, M, C)."""
        y: Tensor = self.proj(x)
        return y.flatten(2).transpose(1, 2)


class VimMixer(nn.Module):
    """Two gated scans of the sequence, one of them backwards, each after a causal convolution of its own."""

    def __init__(self, config: VimConfig) -> None:
        super().__init__()
        C, D, N, R = config.dim, config.channels, config.d_state, config.rank
        self.in_proj = nn.Linear(C, 2 * D, bias=False)
        self.conv1d, self.conv1d_b = (nn.Conv1d(D, D, config.d_conv, groups=D) for _ in range(2))
        self.x_proj, self.x_proj_b = (nn.Linear(D, R + 2 * N, bias=False) for _ in range(2))
        self.dt_proj, self.dt_proj_b = (nn.Linear(R, D) for _ in range(2))
        self.A_log, self.A_b_log = (nn.Parameter(torch.arange(1.0, N + 1).log().repeat(D, 1)) for _ in range(2))
        self.D, self.D_b = (nn.Parameter(torch.ones(D)) for _ in range(2))
        self.out_proj = nn.Linear(D, C, bias=False)

    def initialise_steps(self) -> None:
        """Gives the projections of delta what training starts from, as in Mamba: delta between 1e-3 and 1e-1."""
        for dt_proj in (self.dt_proj, self.dt_proj_b):
            D, R = dt_proj.weight.shape
            nn.init.uniform_(dt_proj.weight, -(R**-0.5), R**-0.5)
            dt_proj.bias.data = inverse_softplus_of_steps(D)

    def scan_parameters(self) -> ScanParameters:
        """x_proj (2,D,R+2N), dt_proj (2,R,D), dt_bias (2,D), A (2,N,D) and D (2,D), as the operator takes them."""
        x_proj = torch.stack([self.x_proj.weight, self.x_proj_b.weight]).transpose(1, 2)
        dt_proj = torch.stack([self.dt_proj.weight, self.dt_proj_b.weight]).transpose(1, 2)
        dt_bias = torch.stack([self.dt_proj.bias, self.dt_proj_b.bias]).float()
        A = -torch.stack([self.A_log, self.A_b_log]).float().exp().transpose(1, 2)
        return x_proj, dt_proj, dt_bias, A, torch.stack([self.D, self.D_b]).float()

    def project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What is scanned, and what gates it: (B, L, C) -> twice (B, L, D)."""
        x, z = self.in_proj(x).chunk(2, -1)
        return x, z

    def conv_parameters(self) -> tuple[Tensor, Tensor]:
        """weight (2, taps, D) and bias (2, D), as the operator takes them."""
        weight = torch.stack([self.conv1d.weight[:, 0].t(), self.conv1d_b.weight[:, 0].t()])
        return weight, torch.stack([self.conv1d.get_parameter("bias"), self.conv1d_b.get_parameter("bias")])

    def merge(self, y: Tensor) -> Tensor:
        """(B, L, D), the sum of both directions, gated -> (B, L, C)."""
        merged: Tensor = self.out_proj(y / 2)
        return merged

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, C) -> (B, L, C)."""
        x, z = self.project(x)
        weight, bias = self.conv_parameters()
        order, back = make_two_way_order(x.shape[1], x.device)
        u = scan.causal_conv(x, weight.to(x.dtype), bias.to(x.dtype), order, weight.shape[1])  # (B, 2, L, D)
        x_proj, dt_proj, dt_bias, A, D = self.scan_parameters()
        x_proj, dt_proj = x_proj.to(u.dtype), dt_proj.to(u.dtype)  # they differ under autocast only
        convolved = number_tokens(2, x.shape[1], x.device)
        y: Tensor = scan.ordered_scan(u.flatten(1, 2), x_proj, dt_proj, dt_bias, A, D, convolved, back)
        return self.merge(y * F.silu(z))


class Block(nn.Module):
    """The residual r grows by what the block before gave, in float32; norm(r) is mixed."""

    def __init__(self, config: VimConfig) -> None:
        super().__init__()
        self.norm = RMSNorm(config.dim)
        self.mixer = VimMixer(config)

    def forward(self, h: Tensor, r: Tensor | None) -> tuple[Tensor, Tensor]:
        """h, r: (B, L, C), r None before the first -> both again."""
        r = h.float() if r is None else r + h.float()
        return self.mixer(self.norm(r)), r


class Vim(nn.Module):
    """The network of `config`, with the parameter names and shapes of the released checkpoints."""

    def __init__(self, config: VimConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, config.grid[0] * config.grid[1] + 1, config.dim))
        self.layers = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm_f = RMSNorm(config.dim)
        self.head = nn.Linear(config.dim, config.num_classes)
        self.apply(initialise)
        for token in (self.cls_token, self.pos_embed):  # at zero the class token would gate itself off
            nn.init.trunc_normal_(token, std=0.02)
        for module in self.modules():
            if isinstance(module, VimMixer):
                module.initialise_steps()

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> the class token after the last block, normalised, (B, C)."""
        if not torch.compiler.is_compiling():
            self._check_image(x)
        patches = self.patch_embed(x)  # (B, M, C)
        middle = patches.shape[1] // 2
        token = self.cls_token.expand(x.shape[0], -1, -1)
        h = torch.cat([patches[:, :middle], token, patches[:, middle:]], 1) + self.pos_embed  # (B, M + 1, C)
        r: Tensor | None = None
        for layer in self.layers:
            h, r = layer(h, r)
        last = h[:, middle].float()
        normalised: Tensor = self.norm_f(last if r is None else r[:, middle] + last)
        return normalised

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> logits (B, num_classes). Raises InputError: H and W are not those of the position table."""
        logits: Tensor = self.head(self.forward_features(x))
        return logits

    def _check_image(self, x: Tensor) -> None:
        h, w = self.config.image_size
        if x.ndim != 4 or tuple(x.shape[1:]) != (3, h, w):
            rows, columns = self.config.grid
            given = f"an image of {x.shape[-2]}x{x.shape[-1]}" if x.ndim == 4 else f"an input of shape {tuple(x.shape)}"
            raise InputError(
                f"This Vim has positions for {rows}x{columns} patches, {self.config.stride} pixels apart, and no other "
                f"size than {h}x{w}; {given} has not those.",
                f"Choose the image size {h}x{w}, without --dynamic-size.",
            )
