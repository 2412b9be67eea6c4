"""Plans: within the limits of every GPU, whatever is to be scanned; narrow where there is little to do."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evm_deploy.cuda.conv_plan import plan_causal_conv
from evm_deploy.cuda.plan import (
    MAX_THREADS,
    SHARED_LIMIT,
    LaunchPlan,
    plan_efficient_scan_2d,
    plan_grouped_scan,
    plan_selective_scan,
    sm_count_of,
)
from evm_deploy.errors import OptionError

DTYPES = st.sampled_from(["float32", "float16"])
SMS = st.sampled_from([1, 8, 16, 132])


def defines(plan: LaunchPlan) -> dict[str, int]:
    return {name: int(value) for name, value in (define.split("=") for define in plan.defines)}


def check(plan: LaunchPlan, sequences: int, D: int, N: int) -> None:
    tile = defines(plan)
    assert plan.shared_bytes == tile["EVM_SHARED"] <= SHARED_LIMIT
    assert plan.block == (tile["EVM_CHANNELS"] * tile["EVM_GROUPS"] * tile["EVM_CHUNKS"], 1, 1)
    assert plan.block[0] <= MAX_THREADS
    assert plan.block[0] % 32 == 0
    assert plan.grid == (sequences * math.ceil(D / tile["EVM_CHANNELS"]), 1, 1)
    assert tile["EVM_GROUPS"] * tile["EVM_STATES"] >= N
    assert tile["EVM_VECTOR"] == 1 or D % tile["EVM_VECTOR"] == 0


@settings(max_examples=60)
@given(
    B=st.integers(1, 300),
    K=st.integers(1, 9),
    L=st.integers(1, 4000),
    D=st.integers(1, 2048),
    N=st.integers(1, 128),
    dtype=DTYPES,
    sms=SMS,
)
def test_selective_scan(B: int, K: int, L: int, D: int, N: int, dtype: str, sms: int) -> None:
    check(plan_selective_scan(B, K, L, D, N, dtype, sms), B * K, D, N)


@settings(max_examples=60)
@given(
    B=st.integers(1, 300),
    H=st.integers(1, 200),
    W=st.integers(1, 200),
    D=st.integers(1, 2048),
    N=st.integers(1, 64),
    R=st.integers(1, 64),
    step=st.integers(1, 4),
    dtype=DTYPES,
    sms=SMS,
)
def test_efficient_scan_2d(B: int, H: int, W: int, D: int, N: int, R: int, step: int, dtype: str, sms: int) -> None:
    check(plan_efficient_scan_2d(B, H, W, D, step**2, N, R, step, dtype, sms), B * step**2, D, N)


@settings(max_examples=40)
@given(
    B=st.integers(1, 300),
    T=st.integers(1, 4000),
    K=st.integers(1, 9),
    L=st.integers(1, 4000),
    D=st.integers(1, 2048),
    N=st.integers(1, 64),
    R=st.integers(1, 64),
    dtype=DTYPES,
    sms=SMS,
)
def test_grouped_scan(B: int, T: int, K: int, L: int, D: int, N: int, R: int, dtype: str, sms: int) -> None:
    check(plan_grouped_scan(B, T, K, L, D, N, R, dtype, sms), B * K, D, N)


@settings(max_examples=100)
@given(
    B=st.integers(1, 300),
    K=st.integers(1, 9),
    L=st.integers(1, 4000),
    D=st.integers(1, 2048),
    taps=st.integers(1, 12),
    dtype=DTYPES,
    sms=SMS,
)
def test_causal_conv(B: int, K: int, L: int, D: int, taps: int, dtype: str, sms: int) -> None:
    plan = plan_causal_conv(B, 100, K, L, D, taps, dtype, sms)
    tile = defines(plan)
    threads = B * K * D // tile["EVM_VECTOR"] * tile["EVM_RUNS"]
    assert D % tile["EVM_VECTOR"] == 0
    assert threads <= plan.grid[0] * plan.block[0] < threads + B * K * plan.block[0]
    assert plan.grid[0] % B == 0


def test_few_sequences_are_cut_and_many_are_not() -> None:
    one, many = (plan_selective_scan(batch, 4, 784, 96, 16, "float32", 132) for batch in (1, 64))
    assert defines(one)["EVM_CHUNKS"] > 1
    assert defines(many)["EVM_CHUNKS"] == 1
    assert defines(one)["EVM_CHANNELS"] < defines(many)["EVM_CHANNELS"]


def test_many_images_share_the_projection_among_all_channels() -> None:
    assert defines(plan_efficient_scan_2d(64, 56, 56, 96, 4, 16, 3, 2, "float16", 132))["EVM_CHANNELS"] == 96


def test_inputs_that_are_left_out_are_not_arguments() -> None:
    plan = plan_selective_scan(1, 4, 49, 96, 16, "float32", 16, skip=False, bias=False, softplus=False)
    assert {"EVM_SKIP=0", "EVM_BIAS=0", "EVM_SOFTPLUS=0"} <= set(plan.defines)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"D": 0}, "D is 0"),
        ({"N": -1}, "N is -1"),
        ({"dtype": "bfloat16"}, "no dtype 'bfloat16'"),
        ({"L": 2**20, "D": 2**12}, "too long for 32-bit"),
        ({"N": 4096}, "do not fit"),
    ],
)
def test_what_cannot_be_planned_is_refused(changes: dict[str, Any], message: str) -> None:
    sizes = {"B": 1, "K": 4, "L": 49, "D": 96, "N": 16, "dtype": "float32", "sm_count": 16} | changes
    with pytest.raises(OptionError, match=message):
        plan_selective_scan(**sizes)


def test_groups_that_do_not_fit_the_step_are_refused() -> None:
    with pytest.raises(OptionError, match="K is 3 for a step of 2"):
        plan_efficient_scan_2d(1, 8, 8, 96, 3, 16, 3, 2, "float32", 16)


def test_an_unknown_architecture_counts_as_a_small_one() -> None:
    assert sm_count_of("sm_90") == 132
    assert sm_count_of("sm_999") == 16
