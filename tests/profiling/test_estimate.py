"""Estimates: right where the answer is known, and refused where there is no ground for one."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evm_deploy.errors import InputError, OptionError
from evm_deploy.profiling.estimate import check, estimate
from evm_deploy.profiling.peaks import DEVICES, FP16, FP32, INT8, Peak, find_peak
from evm_deploy.profiling.report import Operators, Roofline, TimedOperator

HERE = Roofline(gflops=100, gbytes=10, int8_gops=400)
SAME = Peak("as here", {FP32: 100, FP16: 200, INT8: 400}, 10, "made up")
HALF = Peak("half of it", {FP32: 50, FP16: 100, INT8: 200}, 5, "made up")


def row(
    block: str, ms: float, flops: int = 10**9, moved: int = 0, op: str = "Conv", kind: str = "convolution"
) -> TimedOperator:
    return TimedOperator("n", op, kind, block, ms, 0.1, flops, moved)


def operators(*rows: TimedOperator, roofline: Roofline | None = HERE) -> Operators:
    return Operators(1, sum(each.ms for each in rows), rows, roofline)


ALIKE = operators(row("a", 20.0), row("b", 20.0), row("c", 20.0))


def test_a_machine_like_this_one_takes_as_long() -> None:
    found = estimate(ALIKE, SAME, FP32)
    assert (found.ms, found.low, found.high) == pytest.approx((60, 60, 60))
    assert found.source == "made up"
    assert "not measured" in found.note


def test_a_machine_half_as_fast_takes_twice_as_long() -> None:
    assert estimate(ALIKE, HALF, FP32).ms == pytest.approx(120)


def test_float16_computes_at_its_own_peak_and_moves_half() -> None:
    moving = operators(row("a", 1.0, flops=0, moved=10**6), row("b", 1.0, flops=0, moved=10**6))
    assert estimate(ALIKE, SAME, FP16).ms == pytest.approx(30)
    assert estimate(moving, SAME, FP16).ms == pytest.approx(1)


def test_each_kind_reaches_the_share_that_it_reaches_here() -> None:
    """A device with four times the arithmetic and the same memory only speeds up what computes."""
    rows = [row(block, 20.0) for block in "ab"] + [row(block, 2.0, 0, 10**6, "Add", "elementwise") for block in "ab"]
    strong = Peak("strong", {FP32: 400}, 10, "made up")
    assert estimate(operators(*rows), strong, FP32).ms == pytest.approx(10 + 4)


def test_what_only_renames_takes_nothing_elsewhere() -> None:
    rows = [*ALIKE.rows, row("a", 1.0, 0, 0, "Reshape", "layout")]
    assert estimate(operators(*rows), SAME, FP32).ms == pytest.approx(60)


def test_products_of_integers_run_at_the_peak_of_integers() -> None:
    rows = [row(block, 10.0, op="QLinearConv") for block in "ab"] + [row(block, 20.0, kind="norm") for block in "ab"]
    fast = Peak("fast", {FP32: 100, INT8: 4000}, 10, "made up")
    assert estimate(operators(*rows), SAME, INT8).ms == pytest.approx(60)
    assert estimate(operators(*rows), fast, INT8).ms == pytest.approx(2 + 40)


def test_the_error_is_what_blocks_differ_by_from_what_the_others_say() -> None:
    assert check(ALIKE) == pytest.approx(0)
    uneven = operators(row("a", 10.0), row("b", 30.0))  # a is taken for 30, and b for 10
    assert check(uneven) == pytest.approx(1)
    found = estimate(uneven, SAME, FP32)
    assert (found.ms, found.low, found.high) == pytest.approx((40, 20, 80))
    assert "100%" in found.note


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(0.01, 100), st.integers(1, 10**10)), min_size=2, max_size=20)
)
def test_this_machine_is_always_estimated_as_what_it_took(given: list[tuple[str, float, int]]) -> None:
    rows = [row(block, ms, flops) for block, ms, flops in given]
    if len({each.block for each in rows}) > 1:
        found = estimate(operators(*rows), SAME, FP32)
        assert found.ms == pytest.approx(sum(each.ms for each in rows))
        assert found.low <= found.ms <= found.high


@pytest.mark.parametrize(
    ("found", "cause"),
    [
        (dataclasses.replace(ALIKE, roofline=None), "without a roofline"),
        (operators(row("a", 1.0), row("a", 2.0)), "one block"),
        (operators(), "one block"),
    ],
)
def test_without_ground_there_is_no_estimate(found: Operators, cause: str) -> None:
    with pytest.raises(InputError, match=cause):
        estimate(found, SAME, FP32)


@pytest.mark.parametrize("precision", [INT8, "fp8"])
def test_another_precision_than_measured_is_another_graph(precision: str) -> None:
    with pytest.raises(OptionError, match="fp32, fp16"):
        estimate(ALIKE, SAME, precision)


def test_int8_is_not_told_as_float() -> None:
    integers = operators(row("a", 10.0, op="QGemm"), row("b", 10.0, op="QGemm"))
    with pytest.raises(OptionError, match=r"stand for: int8\."):
        estimate(integers, SAME, FP32)


def test_a_device_without_the_precision_is_refused() -> None:
    with pytest.raises(OptionError, match="fp16"):
        estimate(ALIKE, Peak("old", {FP32: 1}, 1, "made up"), FP16)


def test_a_typo_gets_the_nearest_device() -> None:
    with pytest.raises(OptionError, match="raspberry-pi-5"):
        find_peak("rasberry-pi-5")


def test_peaks_are_those_of_the_documents() -> None:
    """What the makers advertise, of which int8 counts zeros that are skipped."""
    orin = DEVICES["jetson-agx-orin-64gb"].gops
    assert orin[FP32] == pytest.approx(5.3e3, rel=0.01)
    advertised = {"jetson-agx-orin-64gb": 170, "jetson-orin-nano-8gb": 40, "jetson-orin-nano-8gb-super": 67}
    for name, tops in advertised.items():
        assert DEVICES[name].gops[INT8] * 2 / 1e3 == pytest.approx(tops, rel=0.03)


def test_every_device_names_its_source() -> None:
    for row in DEVICES.values():
        assert len(row.source) > 20
        assert row.gbytes > 0
        assert row.gops[FP32] < row.gops[FP16] < row.gops[INT8]
