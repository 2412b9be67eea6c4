"""The kernels on tokens in given orders, emulated, against the sequential reference in float64."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from evm_deploy.cuda.conv_plan import plan_causal_conv
from evm_deploy.cuda.plan import plan_grouped_scan
from evm_deploy.scan import reference
from evm_deploy.scan.kernel_inputs import CausalConvInputs, GroupedScanInputs
from evm_deploy.tolerances import FP16_IO_RELATIVE, KERNEL_RELATIVE

Make = Callable[..., list[Tensor]]
Error = Callable[[Tensor, Tensor], float]
H200 = 132  # multiprocessors
EXP2_ERROR = 2.4e-7  # as in test_kernels.py
# float16 in, and of a convolution out; a scan gives float32
TOLERANCES = {torch.float32: KERNEL_RELATIVE, torch.float16: FP16_IO_RELATIVE}
SHARED = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])


def wide(inputs: list[Tensor]) -> list[Tensor]:
    return [t if t.dtype == torch.int64 else t.double() for t in inputs]


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def scan(emulate: Any, plan: Any, inputs: list[Tensor], **options: Any) -> Tensor:
    (batch, T, D), (K, L) = inputs[0].shape, inputs[6].shape
    y: Tensor = emulate(plan, inputs, (T, K, L, D), torch.empty(batch, K, L, D), **options)
    return y


def convolve(emulate: Any, plan: Any, inputs: list[Tensor], **options: Any) -> Tensor:
    (batch, T, D), (K, L) = inputs[0].shape, inputs[3].shape
    y = torch.empty(batch, K, L, D, dtype=inputs[0].dtype)
    made: Tensor = emulate(plan, inputs, (T, K, L, D), y, **options)
    return made


def resize(plan: Any, planned: int, sequences: int) -> Any:
    """The same kernel for another number of sequences."""
    return dataclasses.replace(plan, grid=(plan.grid[0] // planned * sequences, 1, 1))


PUBLISHED = [  # T, K, L, D, N, R of Vim-T, and of stages of VMamba-T v2 and v0 at 224
    pytest.param(394, 2, 197, 384, 16, 12, id="vim"),
    pytest.param(49, 4, 49, 768, 1, 48, id="vmamba-v2-last"),
    pytest.param(3136, 4, 3136, 96, 1, 6, id="vmamba-v2-first", marks=pytest.mark.slow),
    pytest.param(196, 4, 196, 768, 16, 24, id="vmamba-v0-third", marks=pytest.mark.slow),
]
# N, R, D, dtype, and the plan, which is right for any number of sequences and tokens.
SCANS = [
    (N, R, D, dtype, batch, plan_grouped_scan(batch, 100, 1, 200, D, N, R, name_of(dtype), H200))
    for N, R, D, dtype, batch in [
        (1, 3, 96, torch.float32, 1),
        (1, 6, 33, torch.float16, 1),
        (16, 12, 40, torch.float32, 1),
        (16, 3, 33, torch.float16, 300),
        (8, 4, 32, torch.float32, 300),
    ]
]
CONVOLUTIONS = [
    (taps, D, dtype, plan_causal_conv(1, 100, 1, 100, D, taps, name_of(dtype), H200))
    for taps, D, dtype in [
        (4, 40, torch.float32),
        (4, 44, torch.float16),
        (3, 33, torch.float16),
        (1, 8, torch.float32),
    ]
]


@pytest.mark.parametrize("dtype", list(TOLERANCES))
@pytest.mark.parametrize(("T", "K", "L", "D", "N", "R"), PUBLISHED)
def test_the_scans_of_the_published_networks(
    emulate: Any, grouped_scan_inputs: Make, relative_error: Error,
    T: int, K: int, L: int, D: int, N: int, R: int, dtype: torch.dtype,
) -> None:  # fmt: skip
    inputs = grouped_scan_inputs(1, T, K, L, D, N, R, dtype)
    y = scan(emulate, plan_grouped_scan(1, T, K, L, D, N, R, name_of(dtype), H200), inputs, error=EXP2_ERROR)
    assert relative_error(y, reference.run(GroupedScanInputs(*wide(inputs)))) < KERNEL_RELATIVE


@pytest.mark.parametrize("dtype", list(TOLERANCES))
def test_the_convolution_of_vim(
    emulate: Any, causal_conv_inputs: Make, relative_error: Error, dtype: torch.dtype
) -> None:
    inputs = causal_conv_inputs(1, 197, 2, 197, 384, 4, dtype)
    y = convolve(emulate, plan_causal_conv(1, 197, 2, 197, 384, 4, name_of(dtype), H200), inputs, error=EXP2_ERROR)
    assert relative_error(y, reference.run(CausalConvInputs(*wide(inputs)))) < TOLERANCES[dtype]


@SHARED
@given(
    case=st.sampled_from(SCANS), B=st.integers(1, 2), K=st.sampled_from([1, 2, 4]), T=st.integers(1, 80),
    L=st.integers(1, 120),
)  # fmt: skip
def test_grouped_scan_of_any_shape(
    emulate: Any, grouped_scan_inputs: Make, relative_error: Error, case: Any, B: int, K: int, T: int, L: int
) -> None:
    N, R, D, dtype, planned, plan = case
    inputs = grouped_scan_inputs(B, T, K, L, D, N, R, dtype)
    y = scan(emulate, resize(plan, planned, B * K), inputs)
    # float16 is what the inputs are; the sums and y are float32
    assert relative_error(y, reference.run(GroupedScanInputs(*wide(inputs)))) < KERNEL_RELATIVE


@SHARED
@given(
    case=st.sampled_from(CONVOLUTIONS), B=st.integers(1, 2), K=st.sampled_from([1, 2, 4]), T=st.integers(1, 80),
    L=st.integers(1, 120),
)  # fmt: skip
def test_causal_conv_of_any_shape(
    emulate: Any, causal_conv_inputs: Make, relative_error: Error, case: Any, B: int, K: int, T: int, L: int
) -> None:
    taps, D, dtype, plan = case
    inputs = causal_conv_inputs(B, T, K, L, D, taps, dtype)
    y = convolve(emulate, resize(plan, 1, B * K), inputs)
    assert relative_error(y, reference.run(CausalConvInputs(*wide(inputs), taps))) < TOLERANCES[dtype]


def test_threads_may_run_in_any_order_and_stay_inside_their_buffers(
    emulate: Any, grouped_scan_inputs: Make, causal_conv_inputs: Make
) -> None:
    scanned, convolved = (1, 50, 2, 61, 33, 3, 5), (1, 50, 2, 61, 36, 4)
    for run, plan, inputs in (
        (scan, plan_grouped_scan(*scanned, "float16", H200), grouped_scan_inputs(*scanned, torch.float16)),
        (convolve, plan_causal_conv(*convolved, "float32", H200), causal_conv_inputs(*convolved)),
    ):
        y = run(emulate, plan, inputs)
        assert y.isfinite().all()
        for order, at_end in (("reverse", True), ("random", True), ("forward", False)):
            assert torch.equal(run(emulate, plan, inputs, order=order, at_end=at_end), y)


@pytest.mark.parametrize("wrong", [-1, 20, 2**32])
def test_a_token_that_is_not_there_is_nan_and_nothing_else_is_read(
    emulate: Any, grouped_scan_inputs: Make, causal_conv_inputs: Make, wrong: int
) -> None:
    inputs = grouped_scan_inputs(1, 20, 2, 30, 33, 3, 5)
    inputs[6][1, 10] = wrong
    y = scan(emulate, plan_grouped_scan(1, 20, 2, 30, 33, 3, 5, "float32", H200), inputs)
    assert y[:, 0].isfinite().all()
    assert y[:, 1, :10].isfinite().all()
    assert y[:, 1, 10:].isnan().all()
    inputs = causal_conv_inputs(1, 20, 2, 30, 36, 4)
    inputs[3][1, 10] = wrong
    y = convolve(emulate, plan_causal_conv(1, 20, 2, 30, 36, 4, "float32", H200), inputs)
    assert y[:, 1, 10:14].isnan().all()
    assert int(y.isnan().sum()) == 4 * 36
