"""The kernels, emulated, against the sequential reference in float64."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from evm_deploy.cuda.plan import LaunchPlan, plan_efficient_scan_2d, plan_selective_scan
from evm_deploy.models import VARIANTS
from evm_deploy.scan import reference
from evm_deploy.scan.inputs import Scan2DInputs, ScanInputs
from evm_deploy.tolerances import FP16_IO_RELATIVE, KERNEL_RELATIVE

Make = Callable[..., list[Tensor]]
Error = Callable[[Tensor, Tensor], float]
H200 = 132  # multiprocessors
# Twice the two units in the last place that the hardware's exponential may be off.
EXP2_ERROR = 2.4e-7
TOLERANCES = {torch.float32: KERNEL_RELATIVE, torch.float16: FP16_IO_RELATIVE}
SHARED = settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])


def stages(name: str) -> list[tuple[int, int, int]]:
    """Side of the image, channels and rank of the stages of a variant at 224 that scan."""
    config = VARIANTS[name]
    scans = [stage for stage, block in enumerate(config.blocks) if block == "evss"]
    return [(56 >> stage, 2 * config.dims[stage], config.rank(stage)) for stage in scans]


CASES = [
    pytest.param(batch, side, D, R, dtype, marks=() if usual else pytest.mark.slow, id=f"{name}-{D}-{batch}-{dtype}")
    for name in VARIANTS
    for side, D, R in stages(name)
    for dtype in TOLERANCES
    for batch, usual in ((1, name == "tiny"), (8, False))
]


def wide(inputs: list[Tensor]) -> list[Tensor]:
    return [t.double() for t in inputs]


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def reshaped(plan: LaunchPlan, sequences: int, D: int) -> LaunchPlan:
    """The same kernel for another number of sequences and channels."""
    channels = next(int(d.split("=")[1]) for d in plan.defines if d.startswith("EVM_CHANNELS="))
    return dataclasses.replace(plan, grid=(sequences * math.ceil(D / channels), 1, 1))


@pytest.mark.parametrize(("batch", "side", "D", "R", "dtype"), CASES)
def test_the_scans_of_the_published_networks(
    emulate: Any,
    scan_inputs: Make,
    scan_2d_inputs: Make,
    relative_error: Error,
    batch: int,
    side: int,
    D: int,
    R: int,
    dtype: torch.dtype,
) -> None:
    L = side * side // 4
    inputs = scan_inputs(batch, 4, L, D, 16, dtype)
    plan = plan_selective_scan(batch, 4, L, D, 16, name_of(dtype), H200)
    y = emulate(plan, inputs, (4, L, D), torch.empty_like(inputs[0]), error=EXP2_ERROR)
    assert relative_error(y, reference.run(ScanInputs(*wide(inputs), True))) < TOLERANCES[dtype]

    inputs = scan_2d_inputs(batch, side, side, D, 16, R, 2, dtype)
    plan = plan_efficient_scan_2d(batch, side, side, D, 4, 16, R, 2, name_of(dtype), H200)
    y = emulate(plan, inputs, (side, side, D), torch.empty_like(inputs[0]), error=EXP2_ERROR)
    assert relative_error(y, reference.run(Scan2DInputs(*wide(inputs)))) < TOLERANCES[dtype]


# Made for a shape each, and right for all with as many states: states, dtype, by fours or not, chunked or not.
PLANS = [
    (N, dtype, plan_selective_scan(batch, 1, 200, D, N, name_of(dtype), H200), D)
    for N, dtype, batch, D in [
        (1, torch.float32, 1, 96),
        (3, torch.float32, 1, 33),
        (8, torch.float16, 300, 96),
        (16, torch.float32, 300, 33),
        (20, torch.float32, 1, 96),
        (40, torch.float16, 100, 7),
    ]
]
PLANS_2D = [
    (N, R, step, dtype, plan_efficient_scan_2d(batch, 20, 20, D, step * step, N, R, step, name_of(dtype), H200), D)
    for N, R, step, dtype, batch, D in [
        (1, 1, 2, torch.float32, 1, 96),
        (3, 5, 1, torch.float32, 1, 33),
        (8, 4, 2, torch.float16, 300, 96),
        (16, 3, 3, torch.float32, 300, 33),
        (20, 9, 2, torch.float32, 1, 96),
    ]
]


@SHARED
@given(
    plan=st.sampled_from(PLANS),
    B=st.integers(1, 2),
    K=st.integers(1, 3),
    L=st.integers(1, 150),
    size=st.integers(1, 40),
)
def test_selective_scan_of_any_shape(
    emulate: Any, scan_inputs: Make, relative_error: Error, plan: Any, B: int, K: int, L: int, size: int
) -> None:
    N, dtype, planned, D = plan
    D = size if D % 4 else 4 * size
    inputs = scan_inputs(B, K, L, D, N, dtype)
    y = emulate(reshaped(planned, B * K, D), inputs, (K, L, D), torch.empty_like(inputs[0]))
    assert relative_error(y, reference.run(ScanInputs(*wide(inputs), True))) < TOLERANCES[dtype]


@SHARED
@given(
    plan=st.sampled_from(PLANS_2D),
    B=st.integers(1, 2),
    H=st.integers(1, 23),
    W=st.integers(1, 23),
    size=st.integers(1, 40),
)
def test_efficient_scan_2d_of_any_shape(
    emulate: Any, scan_2d_inputs: Make, relative_error: Error, plan: Any, B: int, H: int, W: int, size: int
) -> None:
    N, R, step, dtype, planned, D = plan
    D = size if D % 4 else 4 * size
    inputs = scan_2d_inputs(B, H, W, D, N, R, step, dtype)
    y = emulate(reshaped(planned, B * step * step, D), inputs, (H, W, D), torch.empty_like(inputs[0]))
    assert relative_error(y, reference.run(Scan2DInputs(*wide(inputs), step))) < TOLERANCES[dtype]


@pytest.mark.parametrize("N", [3, 8])
def test_threads_may_run_in_any_order_and_stay_inside_their_buffers(
    emulate: Any, scan_inputs: Make, scan_2d_inputs: Make, N: int
) -> None:
    """A barrier that is missing shows as a result that depends on the order, or as a NaN of memory never written."""
    plans = [plan[2] for plan in PLANS if plan[0] == N], [plan[4] for plan in PLANS_2D if plan[0] == N]
    dtype = torch.float32 if N == 3 else torch.float16
    D, R, step = (33, 5, 1) if N == 3 else (100, 4, 2)
    for plan, inputs, sizes in (
        (reshaped(plans[0][0], 2, D), scan_inputs(1, 2, 131, D, N, dtype), (2, 131, D)),
        (reshaped(plans[1][0], step * step, D), scan_2d_inputs(1, 13, 21, D, N, R, step, dtype), (13, 21, D)),
    ):
        y, other = torch.empty_like(inputs[0]), torch.empty_like(inputs[0])
        emulate(plan, inputs, sizes, y)
        assert y.isfinite().all()
        for order, at_end in (("reverse", True), ("random", True), ("forward", False)):
            assert torch.equal(emulate(plan, inputs, sizes, other, order=order, at_end=at_end), y)


def test_the_emulator_sees_a_read_past_the_end(emulate: Any, scan_inputs: Make) -> None:
    inputs = scan_inputs(1, 2, 131, 33, 3)
    plan = reshaped(PLANS[1][2], 2, 33)
    with pytest.raises(AssertionError, match="outside its buffers"):
        emulate(plan, inputs, (2, 131, 33), inputs[0].new_empty(1, 2, 130, 33))


PLAIN = plan_selective_scan(1, 1, 400, 32, 8, "float32", H200, skip=False, bias=False, softplus=False)


def plain(emulate: Any, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, error: float = 0.0) -> Tensor:
    """Without D, bias and softplus; all of one sequence, 32 channels, 8 states."""
    y: Tensor = emulate(PLAIN, [u, delta, A, B, C], (1, u.shape[2], 32), torch.empty_like(u), error=error)
    return y


@pytest.mark.parametrize("deltas", [(1e-4, 20.0), (1e-4, 1e-4), (1e-2, 1e-2), (1e30, 1e37)])
def test_small_and_large_steps(
    emulate: Any, scan_inputs: Make, relative_error: Error, deltas: tuple[float, float]
) -> None:
    u, _, A, B, C, _, _ = scan_inputs(1, 1, 400, 32, 8)
    delta = torch.exp(torch.empty_like(u).uniform_(*(math.log(d) for d in deltas)))
    inputs = [u.abs() / max(deltas), delta, A, B.abs(), C.abs()]
    assert relative_error(plain(emulate, *inputs), reference.run(ScanInputs(*wide(inputs)))) < KERNEL_RELATIVE


@pytest.mark.parametrize("A", [-1e30, -3.4e38, -math.inf])
def test_a_decay_beyond_float32_is_zero_and_a_step_of_zero_still_keeps_the_state(
    emulate: Any, scan_inputs: Make, relative_error: Error, A: float
) -> None:
    u, delta, decay, B, C, _, _ = scan_inputs(1, 1, 400, 32, 8)
    delta = delta.abs()
    inputs = [u, delta, torch.full_like(decay, A), B, C]
    expected = reference.run(ScanInputs(*wide([u, delta, torch.full_like(decay, -1e30), B, C])))
    assert relative_error(plain(emulate, *inputs), expected) < KERNEL_RELATIVE
    delta[:, :, 10:] = 0
    y = plain(emulate, u, delta, inputs[2], B, C[:, :, :1].expand_as(C))
    assert torch.equal(y[:, :, 10:], y[:, :, 9:10].expand(-1, -1, 390, -1))


@pytest.mark.parametrize("place", range(5))
def test_a_nan_is_not_lost(emulate: Any, scan_inputs: Make, place: int) -> None:
    inputs = scan_inputs(1, 1, 400, 32, 8)[:5]
    inputs[place].view(-1)[0] = math.nan
    assert plain(emulate, *inputs)[0, 0, 0, 0].isnan()


def test_softplus_is_accurate_where_it_is_tiny_and_where_it_is_large(emulate: Any) -> None:
    """With one token and one state, y = delta * u * B * C: delta itself."""
    delta = torch.cat([torch.linspace(-80, 80, 4001), torch.tensor([-1e30, 1e30, 0.0])])
    D, one = len(delta), torch.ones(1, 1, 1, 1)
    plan = plan_selective_scan(1, 1, 1, D, 1, "float32", H200, skip=False, bias=False)
    inputs = [torch.ones(1, 1, 1, D), delta.view(1, 1, 1, D), -torch.ones(1, 1, D), one, one]
    y = emulate(plan, inputs, (1, 1, D), torch.empty(1, 1, 1, D), error=EXP2_ERROR)
    expected = delta.double().exp().log1p().where(delta < 700, delta.double())
    assert float(((y.view(-1) - expected).abs() / expected.clamp(min=1e-38)).max()) < KERNEL_RELATIVE
    inputs[1][..., 0] = math.nan
    assert emulate(plan, inputs, (1, 1, D), torch.empty(1, 1, 1, D))[..., 0].isnan()
