"""The kernels on a real GPU, with the checks that the emulated ones pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from evm_deploy.models import VARIANTS
from evm_deploy.scan import cuda, reference
from evm_deploy.scan.inputs import Scan2DInputs, ScanInputs
from evm_deploy.scan.kernel_inputs import CausalConvInputs, OrderedScanInputs
from evm_deploy.scan.orders import make_cross_order, make_two_way_order, number_tokens
from evm_deploy.tolerances import FP16_IO_RELATIVE, KERNEL_RELATIVE

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

Make = Callable[..., list[Tensor]]
Error = Callable[[Tensor, Tensor], float]
TOLERANCES = {torch.float32: KERNEL_RELATIVE, torch.float16: FP16_IO_RELATIVE}
STAGES = [(56 >> stage, 2 * config.dims[stage], config.rank(stage)) for config in VARIANTS.values() for stage in (0, 1)]
dtypes = pytest.mark.parametrize("dtype", list(TOLERANCES))


def on_gpu(inputs: list[Tensor]) -> list[Tensor]:
    return [t.cuda() for t in inputs]


def wide(inputs: list[Tensor]) -> list[Tensor]:
    return [t.cuda() if t.dtype == torch.int64 else t.cuda().double() for t in inputs]


@dtypes
@pytest.mark.parametrize("batch", [1, 8, 64])
@pytest.mark.parametrize(("side", "D", "R"), STAGES)
def test_the_scans_of_the_published_networks(
    scan_inputs: Make, scan_2d_inputs: Make, relative_error: Error,
    side: int, D: int, R: int, batch: int, dtype: torch.dtype,
) -> None:  # fmt: skip
    inputs = scan_inputs(batch, 4, side * side // 4, D, 16, dtype)
    y = cuda.run(ScanInputs(*on_gpu(inputs), True))
    assert relative_error(y, reference.run(ScanInputs(*wide(inputs), True))) < TOLERANCES[dtype]
    inputs = scan_2d_inputs(batch, side, side, D, 16, R, 2, dtype)
    y = cuda.run(Scan2DInputs(*on_gpu(inputs), 2))
    assert relative_error(y, reference.run(Scan2DInputs(*wide(inputs)))) < TOLERANCES[dtype]


@dtypes
@pytest.mark.parametrize(
    ("B", "L", "D", "N"), [(1, 1, 1, 1), (2, 131, 33, 3), (3, 49, 100, 8), (1, 1000, 7, 20), (2, 5, 64, 40)]
)
def test_odd_shapes(
    scan_inputs: Make, relative_error: Error, B: int, L: int, D: int, N: int, dtype: torch.dtype
) -> None:
    inputs = scan_inputs(B, 3, L, D, N, dtype)
    y = cuda.run(ScanInputs(*on_gpu(inputs), True))
    assert relative_error(y, reference.run(ScanInputs(*wide(inputs), True))) < TOLERANCES[dtype]


@dtypes
@pytest.mark.parametrize(
    ("H", "W", "D", "N", "R", "step"), [(1, 1, 1, 1, 1, 2), (13, 21, 33, 3, 5, 1), (9, 12, 100, 8, 4, 3)]
)
def test_odd_images(
    scan_2d_inputs: Make, relative_error: Error, H: int, W: int, D: int, N: int, R: int, step: int, dtype: torch.dtype
) -> None:
    inputs = scan_2d_inputs(2, H, W, D, N, R, step, dtype)
    y = cuda.run(Scan2DInputs(*on_gpu(inputs), step))
    assert relative_error(y, reference.run(Scan2DInputs(*wide(inputs), step))) < TOLERANCES[dtype]


@dtypes
@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize(
    ("side", "D", "N", "R"), [(56, 96, 1, 6), (7, 768, 1, 48), (56, 192, 16, 6), (7, 1536, 16, 48), (1, 5, 16, 3)]
)
def test_the_scans_of_vmamba(
    grouped_scan_inputs: Make, relative_error: Error, side: int, D: int, N: int, R: int, batch: int, dtype: torch.dtype
) -> None:
    L = side * side
    inputs = [*grouped_scan_inputs(batch, L, 4, L, D, N, R, dtype)[:6], *make_cross_order(side, side)]
    y = cuda.run(OrderedScanInputs(*on_gpu(inputs)))
    assert relative_error(y, reference.run(OrderedScanInputs(*wide(inputs)))) < TOLERANCES[dtype]


@dtypes
@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize(("L", "D"), [(197, 384), (730, 768), (1, 33)])
def test_the_scans_and_convolutions_of_vim(
    grouped_scan_inputs: Make, causal_conv_inputs: Make, relative_error: Error,
    L: int, D: int, batch: int, dtype: torch.dtype,
) -> None:  # fmt: skip
    inputs = [*causal_conv_inputs(batch, L, 2, L, D, 4, dtype)[:3], make_two_way_order(L)[0]]
    y = cuda.run(CausalConvInputs(*on_gpu(inputs)))
    assert relative_error(y, reference.run(CausalConvInputs(*wide(inputs)))) < TOLERANCES[dtype]
    back = make_two_way_order(L)[1]
    inputs = [*grouped_scan_inputs(batch, 2 * L, 2, L, D, 16, 12, dtype)[:6], number_tokens(2, L), back]
    y = cuda.run(OrderedScanInputs(*on_gpu(inputs)))
    assert relative_error(y, reference.run(OrderedScanInputs(*wide(inputs)))) < TOLERANCES[dtype]


def test_steps_of_all_magnitudes(scan_inputs: Make, relative_error: Error) -> None:
    inputs = [t.abs() if i != 2 else t for i, t in enumerate(scan_inputs(1, 4, 784, 96, 16))]
    inputs[1] = torch.exp(torch.empty_like(inputs[1]).uniform_(-9.2, 3.0))
    y = cuda.run(ScanInputs(*on_gpu(inputs[:5])))
    assert relative_error(y, reference.run(ScanInputs(*wide(inputs[:5])))) < KERNEL_RELATIVE


def test_softplus(relative_error: Error) -> None:
    delta = torch.linspace(-80, 80, 4001)
    one = torch.ones(1, 1, 1, 1).cuda()
    u = torch.ones(1, 1, 1, 4001).cuda()
    y = cuda.run(ScanInputs(u, delta.view_as(u).cuda(), -torch.ones(1, 1, 4001).cuda(), one, one, None, None, True))
    expected = delta.double().exp().log1p()
    assert float(((y.cpu().view(-1) - expected).abs() / expected).max()) < KERNEL_RELATIVE


def test_runs_give_the_same_result(scan_inputs: Make) -> None:
    inputs = on_gpu(scan_inputs(2, 4, 784, 96, 16))
    first = cuda.run(ScanInputs(*inputs, True))
    assert all(torch.equal(cuda.run(ScanInputs(*inputs, True)), first) for _ in range(20))


def test_sums_do_not_depend_on_the_run(grouped_scan_inputs: Make) -> None:
    ordered = on_gpu([*grouped_scan_inputs(2, 196, 4, 196, 96, 1, 6)[:6], *make_cross_order(14, 14)])
    first = cuda.run(OrderedScanInputs(*ordered))
    assert all(torch.equal(cuda.run(OrderedScanInputs(*ordered)), first) for _ in range(20))


def test_the_current_stream_is_used_and_a_graph_can_capture_it(scan_2d_inputs: Make) -> None:
    inputs = on_gpu(scan_2d_inputs(1, 14, 14, 96, 16, 3, 2))
    expected = cuda.run(Scan2DInputs(*inputs, 2))  # compiled and loaded before the capture
    graph: Any = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = cuda.run(Scan2DInputs(*inputs, 2))
    y.zero_()
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(y, expected)
