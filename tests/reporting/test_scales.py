"""Axes hold what is drawn on them, and their ticks are round and within."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evm_deploy.reporting.scales import Scale, fit_scale

VALUES = st.lists(st.floats(0, 1e9, allow_subnormal=False).filter(lambda value: value == 0 or value > 1e-9), min_size=1)


@given(VALUES, st.sampled_from([None, False, True]))
def test_every_value_is_inside(values: list[float], log: bool | None) -> None:
    scale = fit_scale(values, 10, 110, log=log)
    assert scale.low < scale.high
    assert all(10 <= scale(value) <= 110 for value in values)
    assert all(scale.low <= value <= scale.high for value in values)


@given(VALUES, st.integers(2, 9), st.booleans())
def test_ticks_are_few_ascending_and_within(values: list[float], most: int, zero: bool) -> None:
    scale = fit_scale(values, 0, 100, zero=zero)
    ticks = scale.choose_ticks(most)
    assert ticks == sorted(set(ticks))
    assert len(ticks) <= 2 * most + 2
    slack = 1e-6 * (scale.high - scale.low)
    assert all(scale.low - slack <= tick <= scale.high + slack for tick in ticks)


def test_the_ends_are_the_ends() -> None:
    for log in (False, True):
        scale = Scale(1.0, 100.0, 200.0, 0.0, log)
        assert (scale(1.0), scale(100.0)) == (200.0, 0.0)
        assert (scale(0.5), scale(1000.0)) == (200.0, 0.0)  # what is outside is drawn at the end
    assert Scale(1.0, 100.0, 0.0, 2.0, log=True)(10.0) == pytest.approx(1.0)


def test_wide_values_make_it_logarithmic() -> None:
    assert fit_scale([1, 100], 0, 1).log
    assert not fit_scale([1, 2], 0, 1).log
    assert not fit_scale([0, 100], 0, 1, log=True).log  # there is no logarithm of 0
    assert fit_scale([1, 100], 0, 1, zero=True) == Scale(0.0, 102.0, 0, 1)


def test_round_ticks() -> None:
    assert Scale(0.0, 10.0, 0, 1).choose_ticks(5) == [0, 2, 4, 6, 8, 10]
    assert Scale(0.9, 1100.0, 0, 1, log=True).choose_ticks(6) == [1, 10, 100, 1000]
    assert Scale(1.0, 10.0, 0, 1, log=True).choose_ticks(6) == [1, 2, 5, 10]


@pytest.mark.parametrize("values", [[], [float("nan")], [0.0], [5.0, 5.0]])
def test_little_to_go_by(values: list[float]) -> None:
    scale = fit_scale(values, 0, 1)
    assert scale.low < scale.high
    assert scale.choose_ticks()
