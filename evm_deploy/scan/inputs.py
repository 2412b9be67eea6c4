"""The inputs of the scans, one object for each operator: what every form of the scan takes.

N states, D channels, L tokens, K groups of a batch of B; R is the rank of dt.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor

from evm_deploy.cuda.plan import MOST_STEPS, LaunchPlan, plan_efficient_scan_2d, plan_selective_scan
from evm_deploy.scan.atrous import gather, scatter

Shapes = dict[str, tuple[int, ...]]


class ScanInputs(NamedTuple):
    """Those of the selective scan, which gives y (B, K, L, D) in the type of u. A is negative."""

    u: Tensor  # (B, K, L, D)
    delta: Tensor  # (B, K, L, D)
    A: Tensor  # (K, N, D)
    B: Tensor  # (B, K, L, N)
    C: Tensor  # (B, K, L, N)
    D: Tensor | None = None  # (K, D)
    delta_bias: Tensor | None = None  # (K, D)
    delta_softplus: bool = False

    @property
    def kernel(self) -> str:
        """The name of the kernels."""
        return "evm_selective_scan"

    @property
    def states(self) -> tuple[str, ...]:
        """What is float32 in every precision."""
        return ("A", "D", "delta_bias")

    @property
    def result_shape(self) -> tuple[int, ...]:
        """That of y."""
        return tuple(self.u.shape)

    def through(self, scan: Scan) -> Tensor:
        """y by this form of the selective scan."""
        return scan(self)

    def shapes(self) -> Shapes:
        """Those that the tensors must have. Raises ValueError where u or A has another rank."""
        if self.u.dim() != 4 or self.A.dim() != 3:
            raise ValueError(
                f"u has shape {tuple(self.u.shape)} and A {tuple(self.A.shape)}, expected (B, K, L, D) and (K, N, D)"
            )
        (batch, K, L, D), N = self.u.shape, self.A.shape[1]
        rows, tokens = (batch, K, L, D), (batch, K, L, N)
        return dict(zip(self._fields, (rows, rows, (K, N, D), tokens, tokens, (K, D), (K, D)), strict=False))

    def sizes(self) -> dict[str, int]:
        """As native/c_api.h has them."""
        (batch, K, L, D), N = self.u.shape, self.A.shape[1]
        return {
            "batch": batch,
            "groups": K,
            "length": L,
            "channels": D,
            "states": N,
            "delta_softplus": self.delta_softplus,
        }

    def launch_sizes(self) -> tuple[int, ...]:
        """The sizes among the arguments of the CUDA kernel."""
        return tuple(self.u.shape[1:])

    def plan(self, dtype: str, sm_count: int) -> LaunchPlan:
        """The launch of the CUDA kernel."""
        skip, bias = self.D is not None, self.delta_bias is not None
        sizes = (*self.u.shape, self.A.shape[1])
        return _plan_scan(*sizes, dtype, sm_count, skip=skip, bias=bias, softplus=bool(self.delta_softplus))


class Scan2DInputs(NamedTuple):
    """Those of ES2D, the atrous selective scan (arXiv 2403.09977, section 3.1): step*step groups, each scanned by
    itself. y is (B, H, W, D), in the type of x.
    """

    x: Tensor  # (B, H, W, D)
    x_proj: Tensor  # (K, D, R+2N), columns dt | B | C
    dt_proj: Tensor  # (K, R, D)
    dt_bias: Tensor  # (K, D)
    A: Tensor  # (K, N, D)
    D: Tensor  # (K, D)
    step: int = 2  # K = step * step

    @property
    def kernel(self) -> str:
        """The name of the kernels."""
        return "evm_efficient_scan_2d"

    @property
    def states(self) -> tuple[str, ...]:
        """What is float32 in every precision."""
        return ("dt_bias", "A", "D")

    @property
    def result_shape(self) -> tuple[int, ...]:
        """That of y."""
        return tuple(self.x.shape)

    def through(self, scan: Scan, project: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """y by this form of the selective scan; `project` makes (B, K, L, R+2N) of the tokens (B, K, L, D)."""
        _check_step(self.step)
        H, W = self.x.shape[1:3]
        R, N = self.dt_proj.shape[1], self.A.shape[1]
        u = gather(self.x, self.step)  # (B, K, L, D)
        projected = torch.matmul(u, self.x_proj) if project is None else project(u)
        dt, B, C = projected.split([R, N, N], dim=-1)
        y = scan(ScanInputs(u, torch.matmul(dt, self.dt_proj), self.A, B, C, self.D, self.dt_bias, True))
        return scatter(y, H, W, self.step)

    def shapes(self) -> Shapes:
        """Those that the tensors must have. Raises ValueError for another rank of x, dt_proj or A, and for the step."""
        _check_step(self.step)
        if self.x.dim() != 4 or self.dt_proj.dim() != 3 or self.A.dim() != 3:
            raise ValueError(
                f"x has shape {tuple(self.x.shape)}, dt_proj {tuple(self.dt_proj.shape)} and A "
                f"{tuple(self.A.shape)}; expected (B, H, W, D), (K, R, D) and (K, N, D)"
            )
        D, K, R, N = self.x.shape[3], self.step * self.step, self.dt_proj.shape[1], self.A.shape[1]
        given = (tuple(self.x.shape), (K, D, R + 2 * N), (K, R, D), (K, D), (K, N, D), (K, D))
        return dict(zip(self._fields, given, strict=False))

    def sizes(self) -> dict[str, int]:
        """As native/c_api.h has them."""
        names = ("batch", "height", "width", "channels", "states", "rank", "step")
        return dict(zip(names, (*self.x.shape, self.A.shape[1], self.dt_proj.shape[1], self.step), strict=True))

    def launch_sizes(self) -> tuple[int, ...]:
        """The sizes among the arguments of the CUDA kernel."""
        return tuple(self.x.shape[1:])

    def plan(self, dtype: str, sm_count: int) -> LaunchPlan:
        """The launch of the CUDA kernel."""
        K, R, N = self.step * self.step, self.dt_proj.shape[1], self.A.shape[1]
        return _plan_scan_2d(*self.x.shape, K, N, R, self.step, dtype, sm_count)


class QuantizedScan2DInputs(NamedTuple):
    """Those of ES2D with x_proj in int8, times x_proj_scale, and for its sake x in uint8.

    What is scanned is x as it was. Rounding is that of ONNX's QuantizeLinear: the quotient in float32, ties to even,
    then saturation.
    """

    x: Tensor  # (B, H, W, D)
    x_scale: float
    x_zero_point: int
    x_proj: Tensor  # (K, D, R+2N)
    x_proj_scale: Tensor  # (K, R+2N)
    dt_proj: Tensor  # (K, R, D)
    dt_bias: Tensor  # (K, D)
    A: Tensor  # (K, N, D)
    D: Tensor  # (K, D)
    step: int = 2

    def through(self, scan: Scan) -> Tensor:
        """y by this form of the selective scan."""
        floats = Scan2DInputs(self.x, self.x_proj, self.dt_proj, self.dt_bias, self.A, self.D, self.step)
        return floats.through(scan, self._project)

    def _project(self, u: Tensor) -> Tensor:
        zero = self.x_zero_point
        integers = ((u.float() / self.x_scale).round() + zero).clamp(0, 255) - zero
        projected = torch.matmul(integers.to(self.x.dtype), self.x_proj.to(self.x.dtype))
        return projected * (self.x_scale * self.x_proj_scale[:, None])


Scan: TypeAlias = Callable[[ScanInputs], Tensor]  # a form of the selective scan


class AnyInputs(Protocol):
    """What every form of the scan takes."""

    def through(self, scan: Scan) -> Tensor:
        """y by this form of the selective scan."""


_plan_scan = cache(plan_selective_scan)
_plan_scan_2d = cache(plan_efficient_scan_2d)


def _check_step(step: int) -> None:
    if not 1 <= step <= MOST_STEPS:
        raise ValueError(f"step is {step}, expected 1 to {MOST_STEPS}")
