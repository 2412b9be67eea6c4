"""Cases for the kernels, what they are held against, and the instruction sets of this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import pytest
import torch
from torch import Tensor

from evm_deploy.scan import native, reference
from evm_deploy.scan.inputs import Scan2DInputs, ScanInputs
from evm_deploy.scan.kernel_inputs import CausalConvInputs


@dataclass(frozen=True)
class Scan:
    """Inputs of `selective_scan`, in the order of its arguments."""

    u: Tensor  # (B, K, L, D)
    delta: Tensor  # (B, K, L, D)
    A: Tensor  # (K, N, D)
    B: Tensor  # (B, K, L, N)
    C: Tensor  # (B, K, L, N)
    D: Tensor | None  # (K, D)
    delta_bias: Tensor | None  # (K, D)
    delta_softplus: bool

    def arguments(self, dtype: torch.dtype = torch.float32) -> list[Any]:
        return _as(dtype, self)

    def expected(self) -> Tensor:
        return reference.run(ScanInputs(*self.arguments(torch.float64)))


@dataclass(frozen=True)
class Scan2D:
    """Inputs of `efficient_scan_2d`, in the order of its arguments."""

    x: Tensor  # (B, H, W, D)
    x_proj: Tensor  # (K, D, R+2N)
    dt_proj: Tensor  # (K, R, D)
    dt_bias: Tensor  # (K, D)
    A: Tensor  # (K, N, D)
    D: Tensor  # (K, D)
    step: int

    def arguments(self, dtype: torch.dtype = torch.float32) -> list[Any]:
        return _as(dtype, self)

    def expected(self) -> Tensor:
        return reference.run(Scan2DInputs(*self.arguments(torch.float64)))


def _as(dtype: torch.dtype, case: Scan | Scan2D) -> list[Any]:
    values = [getattr(case, field.name) for field in fields(case)]
    return [value.to(dtype) if isinstance(value, Tensor) else value for value in values]


def _make_scan(
    batch: int, K: int, L: int, channels: int, N: int, softplus: bool = True, optional: bool = True, seed: int = 0
) -> Scan:
    """Without softplus, delta is spread evenly over the orders of magnitude from 1e-4 to 20."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=g)

    delta = normal(batch, K, L, channels)
    if not softplus:
        delta = torch.exp(torch.empty(batch, K, L, channels).uniform_(-9.2, 3.0, generator=g))
    return Scan(
        u=normal(batch, K, L, channels),
        delta=delta,
        A=-torch.exp(normal(K, N, channels) + torch.arange(1.0, N + 1).log()[:, None] - 1),
        B=normal(batch, K, L, N).abs(),  # a sum over states that cancels would show the rounding of its terms, not ours
        C=normal(batch, K, L, N).abs(),
        D=normal(K, channels).abs() if optional else None,
        delta_bias=normal(K, channels) if optional and softplus else None,
        delta_softplus=softplus,
    )


def _make_scan_2d(batch: int, H: int, W: int, channels: int, N: int, R: int, step: int, seed: int = 0) -> Scan2D:
    g = torch.Generator().manual_seed(seed)
    K = step * step

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=g)

    return Scan2D(
        x=normal(batch, H, W, channels),
        x_proj=normal(K, channels, R + 2 * N) / channels**0.5,
        dt_proj=normal(K, R, channels),
        dt_bias=normal(K, channels) - 1,
        A=-torch.exp(normal(K, N, channels)),
        D=normal(K, channels).abs() + 2,
        step=step,
    )


def _relative_error(y: Tensor, expected: Tensor, least: float = 0.0) -> float:
    """Largest |difference|, relative to the largest |expected|, or to `least` where a sum of larger terms is less."""
    if expected.numel() == 0:
        return 0.0
    return float((y.double() - expected).abs().max() / expected.abs().max().clamp(min=least))


@pytest.fixture(scope="session")
def make_scan() -> Callable[..., Scan]:
    """make_scan(batch, K, L, channels, N, softplus=True, optional=True, seed=0)"""
    return _make_scan


@pytest.fixture(scope="session")
def make_scan_2d() -> Callable[..., Scan2D]:
    """make_scan_2d(batch, H, W, channels, N, R, step, seed=0)"""
    return _make_scan_2d


@pytest.fixture(scope="session")
def make_causal_conv() -> Callable[..., CausalConvInputs]:
    """Inputs of a `causal_conv`: make_causal_conv(batch, T, K, L, D, taps, seed=0), in float32."""

    def make(batch: int, T: int, K: int, L: int, D: int, taps: int, seed: int = 0) -> CausalConvInputs:
        g = torch.Generator().manual_seed(seed)
        x, weight, bias = (torch.randn(*shape, generator=g) for shape in ((batch, T, D), (K, taps, D), (K, D)))
        return CausalConvInputs(x, weight, bias, torch.randint(T, (K, L), generator=g), taps)

    return make


@pytest.fixture(scope="session")
def relative_error() -> Callable[..., float]:
    """relative_error(y, expected): the largest |difference|, relative to the largest |expected|."""
    return _relative_error


def supported_isas() -> list[str]:
    """Of this machine, best first."""
    if not native.available():
        return []
    best, found = native.isa(), []
    for name in ("avx512vnni", "avx512", "avx2", "baseline", "neon"):
        try:
            native.set_isa(name)
        except ValueError:
            continue
        found.append(name)
    native.set_isa(best)
    return found


@pytest.fixture(params=supported_isas() or [pytest.param("none", marks=pytest.mark.skip(reason="no native library"))])
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test with each instruction set of this machine."""
    before = native.isa()
    native.set_isa(request.param)
    yield request.param
    native.set_isa(before)


@pytest.fixture
def threads() -> Iterator[None]:
    """Lets the test change torch's number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
