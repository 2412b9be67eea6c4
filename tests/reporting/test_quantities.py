"""Figures as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evm_deploy.profiling.report import Interval
from evm_deploy.reporting.quantities import format_interval, format_number, format_per_cent, scale_value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (12.345, "12.3"),
        (9.999, "10.0"),
        (0.3666, "0.367"),
        (99.95, "100"),
        (1234.5, "1,234"),
        (0.00012345, "0.000123"),
        (2.345e-6, "2.3e-06"),
        (12_345_678, "1.2e+07"),
        (-1.5, "-1.50"),
        (None, "-"),
        (float("nan"), "-"),
        (float("inf"), "-"),
    ],
)
def test_three_digits_that_mean_something(value: float | None, text: str) -> None:
    assert format_number(value) == text


@given(st.floats(1e-3, 1e6))
def test_a_figure_is_within_its_digits(value: float) -> None:
    assert float(format_number(value).replace(",", "")) == pytest.approx(value, rel=5e-3)


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.5"), (100.0, "100"), (1.0, "1"), (1e-6, "1e-06"), (2000, "2,000")]
)
def test_a_tick_ends_without_zeros(value: float, text: str) -> None:
    assert format_number(value, tick=True) == text


def test_intervals_and_shares() -> None:
    assert format_interval(Interval(10.0, 9.5, 11.0)) == "10.0 [9.50, 11.0]"
    assert (format_interval(None), format_per_cent(None), scale_value(None, 2)) == ("-", "-", None)
    assert (format_per_cent(0.98765), format_per_cent(0.98765, 2), scale_value(3.0, 2)) == ("98.8", "98.77", 6.0)
