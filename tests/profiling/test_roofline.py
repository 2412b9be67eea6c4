"""The least time that a machine allows, and what the machine here is found to do."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evm_deploy.profiling import roofline
from evm_deploy.profiling.costs import Cost
from evm_deploy.profiling.report import Roofline

ROOF = Roofline(gflops=100, gbytes=10, int8_gops=400, cache_gbytes=50, cache_bytes=1000)
COSTS = st.builds(Cost, st.integers(0, 10**12), st.integers(0, 10**10))


def test_arithmetic_bounds_what_moves_little() -> None:
    assert roofline.compute_least_ms(Cost(10**9, 0), ROOF) == pytest.approx(10)


def test_memory_bounds_what_computes_little() -> None:
    assert roofline.compute_least_ms(Cost(0, 10**9), ROOF) == pytest.approx(100)


def test_what_fits_into_a_cache_may_move_faster() -> None:
    assert roofline.compute_least_ms(Cost(0, 1000), ROOF) == pytest.approx(1000 / 50e6)
    assert roofline.compute_least_ms(Cost(0, 1001), ROOF) == pytest.approx(1001 / 10e6)


def test_integers_have_a_peak_of_their_own() -> None:
    assert roofline.compute_least_ms(Cost(4 * 10**9, 0, 4 * 10**9), ROOF) == pytest.approx(10)
    assert roofline.compute_least_ms(Cost(5 * 10**9, 0, 4 * 10**9), ROOF) == pytest.approx(20)
    assert roofline.compute_least_ms(Cost(10**9, 0, 10**9), Roofline(100, 10)) == pytest.approx(10)


def test_what_is_not_counted_has_no_least_time() -> None:
    assert roofline.compute_least_ms(Cost(None, 100), ROOF) is None


@given(COSTS, COSTS)
def test_more_work_never_takes_less(one: Cost, two: Cost) -> None:
    both = Cost((one.flops or 0) + (two.flops or 0), one.bytes + two.bytes)
    least = [roofline.compute_least_ms(each, Roofline(100, 10)) for each in (one, two, both)]
    assert least[2] is not None
    assert least[2] >= max(time for time in least[:2] if time is not None)


def test_the_largest_cache_is_read_of_the_system(tmp_path: Path) -> None:
    for index, size in enumerate(("32K", "1024K", "32M")):
        (tmp_path / f"index{index}").mkdir()
        (tmp_path / f"index{index}" / "size").write_text(size + "\n")
    assert roofline.find_last_cache(tmp_path) == 32 << 20


def test_a_system_that_says_nothing_or_nonsense_has_a_usual_cache(tmp_path: Path) -> None:
    assert roofline.find_last_cache(tmp_path / "absent") == roofline.USUAL_LLC
    (tmp_path / "index0").mkdir()
    (tmp_path / "index0" / "size").write_text("unknown\n")
    assert roofline.find_last_cache(tmp_path) == roofline.USUAL_LLC


def test_this_machine_has_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "SECONDS", 0.02)
    monkeypatch.setattr(roofline, "SIDE", 128)
    monkeypatch.setattr(roofline, "STREAMED", 1 << 24)
    found = roofline.measure_roofline(threads=1)
    assert min(found.gflops, found.gbytes, found.int8_gops or 0, found.cache_gbytes or 0) > 0
    assert (found.cache_bytes or 0) >= roofline.USUAL_LLC
