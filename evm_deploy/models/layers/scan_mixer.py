"""The mixer that EfficientVMamba and VMamba have in common: a two-dimensional selective scan between projections."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evm_deploy import scan
from evm_deploy.models.layers.maps import run_convolution
from evm_deploy.scan.cross_scan import cross_scan_2d

SCAN_PARAMETERS = ("x_proj", "dt_proj", "dt_bias", "A", "D")  # as `ScanMixer.scan_parameters` orders them
Convert = Callable[[Tensor], Tensor]


class ScanMixer(nn.Module):
    """Mixing of tokens: a depthwise convolution and the two-dimensional selective scan, times SiLU(z) where gated.

    C, D: channels outside and inside; N: states; R: rank of dt; K: directions.
    kind: "es2d", whose groups are `step` tokens apart, or "ss2d", the full cross-scan.
    """

    def __init__(
        self,
        C: int,
        D: int,
        N: int,
        R: int,
        K: int,
        *,
        kind: str = "ss2d",
        step: int = 2,
        gate: bool = True,
        conv_bias: bool = True,
    ) -> None:
        super().__init__()
        self.kind, self.step, self.gate = kind, step, gate
        self.in_proj = nn.Linear(C, 2 * D if gate else D, bias=False)
        self.conv2d = nn.Conv2d(D, D, 3, padding=1, groups=D, bias=conv_bias)
        self.x_proj_weight = nn.Parameter(torch.empty(K, R + 2 * N, D).uniform_(-(D**-0.5), D**-0.5))
        self.dt_projs_weight = nn.Parameter(torch.empty(K, D, R).uniform_(-(R**-0.5), R**-0.5))
        self.dt_projs_bias = nn.Parameter(inverse_softplus_of_steps(K, D))
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

    def project(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """What is scanned, and what gates it if anything does: (B, H, W, C) -> (B, H, W, D) each."""
        if not self.gate:
            return self.in_proj(x), None
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
        y: Tensor = self.out_norm(self.scan(F.silu(run_convolution(self.conv2d, x))))
        y = self.out_proj(y if z is None else y * F.silu(z))
        return y


class FoldedScanMixer(ScanMixer):
    """A `ScanMixer` whose scan parameters are constants, already as the operators take them."""

    def __init__(self, mixer: ScanMixer) -> None:
        nn.Module.__init__(self)
        self.kind, self.step, self.gate = mixer.kind, mixer.step, mixer.gate
        for name, value in zip(SCAN_PARAMETERS, mixer.scan_parameters(), strict=True):
            self.register_buffer(name, value.detach().contiguous())
        for name, module in mixer.named_children():
            if name != "in_proj":
                self.add_module(name, module)
        if not self.gate:
            self.in_x = mixer.in_proj
            return
        x_weight, z_weight = mixer.in_proj.weight.chunk(2)  # (D, C) each
        self.in_x, self.in_z = make_linear(x_weight), make_linear(z_weight)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """As `ScanMixer.project`, without the copy that cutting one result in two takes (3 % of T)."""
        return self.in_x(x), self.in_z(x) if self.gate else None

    def scan_parameters(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """As `ScanMixer.scan_parameters`."""
        # not get_buffer: while torch.export traces, they are no tensors
        x_proj, dt_proj, dt_bias, A, D = (getattr(self, name) for name in SCAN_PARAMETERS)
        return x_proj, dt_proj, dt_bias, A, D

    def _apply(self, fn: Convert, recurse: bool = True) -> "FoldedScanMixer":
        """Where torch moves and converts a module: the constants of the recurrence move, and stay float32."""
        kept = {name: self.get_buffer(name) for name in SCAN_PARAMETERS[2:]}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        restore_float32(self, kept)
        return self


def restore_float32(module: nn.Module, kept: dict[str, Tensor]) -> None:
    """Puts these buffers of float32 back into `module`, on the device to which it has moved."""
    for name, value in kept.items():
        setattr(module, name, value.to(module.get_buffer(name).device))


def make_linear(weight: Tensor) -> nn.Linear:
    """A linear layer without bias with a copy of `weight` (out, in), for inference."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    linear.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    return linear


def fold_stem(stem: nn.Conv2d, mean: Sequence[float], std: Sequence[float]) -> None:
    """Makes a convolution without padding take pixels in 0..255 instead of (pixel / 255 - mean) / std: exact."""
    assert stem.bias is not None
    means, stds = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (mean, std))
    weight = stem.weight.detach().double() / stds  # (C, 3, k, k)
    bias = stem.bias.detach().double() - (weight * means).sum((1, 2, 3))
    stem.weight.data, stem.bias.data = (weight / 255).to(stem.weight.dtype), bias.to(stem.bias.dtype)


def inverse_softplus_of_steps(*shape: int) -> Tensor:
    """Biases whose softplus is log-uniform in [1e-3, 1e-1]."""
    steps = torch.empty(shape).uniform_(math.log(1e-3), math.log(1e-1)).exp()
    return steps + torch.log(-torch.expm1(-steps))
