"""The CUDA kernels on a CPU: their sources compiled by g++ against emulator.h, one library for each set of defines."""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import evm_deploy.cuda
from evm_deploy.cuda.plan import LaunchPlan

HERE = Path(__file__).parent
SOURCES = Path(evm_deploy.cuda.__file__).parent
FLAGS = "-std=c++17 -O1 -march=native -ffp-contract=off -fno-strict-aliasing -U_FORTIFY_SOURCE -fPIC -shared".split()
WARNINGS = "-Wall -Wextra -Werror -Wno-unknown-pragmas -Wno-unused-function -Wno-unused-variable".split()
ORDERS = {"forward": 0, "reverse": 1, "random": 2}


class Emulator:
    """Runs a launch plan on the CPU."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.library = folder  # of the last run

    def __call__(
        self,
        plan: LaunchPlan,
        tensors: Sequence[Tensor],
        sizes: Sequence[int],
        y: Tensor,
        order: str = "forward",
        at_end: bool = True,
        error: float = 0.0,
    ) -> Tensor:
        """Fills y, as `order` has the threads take turns. With `at_end` a buffer is guarded behind its last byte, else
        before its first; `error` is the largest relative error of an exponential.
        """
        given = [t.contiguous() for t in tensors]
        y.fill_(float("nan"))
        numbers = [ctypes.c_int(size) for size in sizes]
        pointers = [t.data_ptr() for t in given] + [ctypes.addressof(n) for n in numbers] + [y.data_ptr()]
        lengths = [t.nbytes for t in given] + [0] * len(numbers) + [y.nbytes]
        left_its_buffers = self._build(plan).emulate(
            plan.grid[0],
            plan.block[0],
            plan.shared_bytes,
            len(pointers),
            (ctypes.c_void_p * len(pointers))(*pointers),
            (ctypes.c_int64 * len(lengths))(*lengths),
            ORDERS[order],
            int(at_end),
            ctypes.c_float(error),
        )
        assert not left_its_buffers, "a thread reads or writes outside its buffers"
        return y

    def _build(self, plan: LaunchPlan) -> ctypes.CDLL:
        path = self.folder / (hashlib.sha256(" ".join(plan.defines).encode()).hexdigest()[:16] + ".so")
        if not path.exists():
            kernel = (f'EVM_SOURCE="{plan.source.name}"', f"EVM_ENTRY={plan.entry}")
            names = [f"-D{name}" for name in ("EVM_EMULATED", *kernel, *plan.defines)]
            files = [f"-I{HERE}", f"-I{SOURCES}", str(HERE / "emulator.cpp"), "-o", str(path)]
            subprocess.run(["g++", *FLAGS, *WARNINGS, *names, *files], check=True)
        return ctypes.CDLL(str(path))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The references take thousands of tiny steps, in which several threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def emulate(tmp_path_factory: pytest.TempPathFactory) -> Emulator:
    """emulate(plan, tensors, sizes, y, order="forward", at_end=True, error=0.0)"""
    if not shutil.which("g++"):
        pytest.skip("no g++")
    return Emulator(tmp_path_factory.mktemp("emulated"))


def _scan_inputs(
    batch: int, K: int, L: int, D: int, N: int, dtype: torch.dtype = torch.float32, low: float = 1e-3, high: float = 0.1
) -> list[Tensor]:
    """u, delta, A, B, C, D, delta_bias; softplus(delta + bias) is even over the magnitudes from low to high."""
    g = torch.Generator().manual_seed(L * 1000 + D)
    step = torch.exp(torch.empty(batch, K, L, D).uniform_(*torch.tensor([low, high]).log().tolist(), generator=g))
    bias = torch.randn(K, D, generator=g)
    delta = step.double().expm1().log().float() - bias[:, None]
    A = -torch.arange(1.0, N + 1)[:, None] * torch.exp(0.1 * torch.randn(K, N, D, generator=g))
    u, B, C = (torch.randn(batch, K, L, n, generator=g).to(dtype) for n in (D, N, N))
    return [u, delta.to(dtype), A, B, C, torch.randn(K, D, generator=g), bias]


def _scan_2d_inputs(
    batch: int, H: int, W: int, D: int, N: int, R: int, step: int, dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    """x, x_proj, dt_proj, dt_bias, A, D."""
    g = torch.Generator().manual_seed(H * 1000 + W * 100 + D)
    K = step * step
    x = torch.randn(batch, H, W, D, generator=g)
    x_proj = torch.randn(K, D, R + 2 * N, generator=g) / D**0.5
    dt_proj = torch.randn(K, R, D, generator=g) / R**0.5
    A = -torch.arange(1.0, N + 1)[:, None] * torch.exp(0.1 * torch.randn(K, N, D, generator=g))
    bias = torch.randn(K, D, generator=g) - 3
    return [x.to(dtype), x_proj.to(dtype), dt_proj.to(dtype), bias, A, torch.randn(K, D, generator=g)]


def _grouped_scan_inputs(
    batch: int, T: int, K: int, L: int, D: int, N: int, R: int, dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    """x, x_proj, dt_proj, dt_bias, A, D and an order in which tokens come more than once, or never."""
    g = torch.Generator().manual_seed(T * 1000 + L * 100 + D)
    x, x_proj = torch.randn(batch, T, D, generator=g), torch.randn(K, D, R + 2 * N, generator=g) / D**0.5
    dt_proj, bias = torch.randn(K, R, D, generator=g) / R**0.5, torch.randn(K, D, generator=g) - 3
    A = -torch.arange(1.0, N + 1)[:, None] * torch.exp(0.1 * torch.randn(K, N, D, generator=g))
    order = torch.randint(0, T, (K, L), generator=g)
    return [x.to(dtype), x_proj.to(dtype), dt_proj.to(dtype), bias, A, torch.randn(K, D, generator=g), order]


def _causal_conv_inputs(
    batch: int, T: int, K: int, L: int, D: int, taps: int, dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    """x, weight, bias, order."""
    g = torch.Generator().manual_seed(T * 1000 + L * 100 + D)
    x, weight, bias = (torch.randn(shape, generator=g) for shape in ((batch, T, D), (K, taps, D), (K, D)))
    return [x.to(dtype), weight.to(dtype), bias.to(dtype), torch.randint(0, T, (K, L), generator=g)]


@pytest.fixture(scope="session")
def scan_inputs() -> Callable[..., Any]:
    return _scan_inputs


@pytest.fixture(scope="session")
def scan_2d_inputs() -> Callable[..., Any]:
    return _scan_2d_inputs


@pytest.fixture(scope="session")
def grouped_scan_inputs() -> Callable[..., Any]:
    return _grouped_scan_inputs


@pytest.fixture(scope="session")
def causal_conv_inputs() -> Callable[..., Any]:
    return _causal_conv_inputs


def _relative_error(y: Tensor, expected: Tensor) -> float:
    """Largest |difference|, relative to the largest |expected|; infinite for a NaN."""
    error = float((y.double() - expected).abs().max() / expected.abs().max())
    return error if error == error else float("inf")


@pytest.fixture(scope="session")
def relative_error() -> Callable[[Tensor, Tensor], float]:
    return _relative_error
