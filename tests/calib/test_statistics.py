"""Statistics taken image by image are those of all values at once."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from evm_deploy.calib.statistics import HALF, MOMENTUM, NotFinite, TensorStatistics

Make = Callable[..., TensorStatistics]

# Beside much larger ones, values of less than 2**-149 of a bin count as zero.
floats = st.floats(-(2.0**100), 2.0**100, width=32).map(lambda value: value if abs(value) > 2.0**-40 else 0.0)
few = settings(max_examples=25)  # each compares thousands of bins
images = st.lists(hnp.arrays(np.float32, (2, 3, 4), elements=floats), min_size=1, max_size=5)


def collected(arrays: list[npt.NDArray[np.float32]], axis: int) -> TensorStatistics:
    found = TensorStatistics(arrays[0].shape[axis])
    for array in arrays:
        found.update(array, axis)
    return found


def slow_counts(values: npt.NDArray[Any], limit: float) -> npt.NDArray[np.int64]:
    """Each value looked up on its own, in float64."""
    counts = np.zeros(2 * HALF, np.int64)
    for value in values.ravel().astype(np.float64):
        counts[int(np.floor(value / limit * HALF)) + HALF] += 1
    return counts


@given(images, st.integers(-3, 2))
@few
def test_against_all_values_at_once(arrays: list[npt.NDArray[np.float32]], axis: int) -> None:
    found, together = collected(arrays, axis), np.stack(arrays)
    rows = np.moveaxis(together, axis if axis < 0 else axis + 1, -1).reshape(-1, found.channels).astype(np.float64)
    np.testing.assert_array_equal(found.channel_min, rows.min(0))
    np.testing.assert_array_equal(found.channel_max, rows.max(0))
    np.testing.assert_allclose(found.channel_mean, rows.mean(0), rtol=1e-12, atol=1e-12 * np.abs(rows).max())
    assert (found.low, found.high) == (together.min(), together.max())
    assert (found.count, found.elements) == (len(arrays), together.size)
    np.testing.assert_array_equal(found.counts, slow_counts(together, found.limit))
    assert found.limit > np.abs(together).max()
    assert found.limit <= max(2 * np.abs(together).max(), 2.0**-100)


@given(images)
@few
def test_the_order_of_images_does_not_change_the_histogram(arrays: list[npt.NDArray[np.float32]]) -> None:
    np.testing.assert_array_equal(collected(arrays, 0).counts, collected(arrays[::-1], 0).counts)


@given(st.lists(hnp.arrays(np.float32, 5, elements=st.floats(-9, 9, width=32)), min_size=1, max_size=5))
@few
def test_the_histogram_that_others_see(arrays: list[npt.NDArray[np.float32]]) -> None:
    found = collected(arrays, 0)
    values = np.concatenate(arrays)
    for folded in (False, True):
        for bins in (2 * HALF, 100, 8):
            edges, counts = found.histogram(bins, folded)
            shown = np.abs(values) if folded else values
            assert counts.sum() == values.size
            assert len(counts) == len(edges) - 1 <= bins
            assert (np.diff(edges) >= 0).all()
            assert edges[-1] == shown.max() or not shown.any()
            assert edges[0] <= shown.min()
            below = np.concatenate([[0], np.cumsum(counts)])
            # No value is on the wrong side of an edge, but for those that lie on it.
            assert (np.searchsorted(np.sort(shown), edges, "left") <= below).all()
            assert (np.searchsorted(np.sort(shown), edges, "right") >= below).all()


@given(st.lists(st.tuples(st.floats(-9, 0), st.floats(0, 9)), min_size=1, max_size=20))
@few
def test_moving_averages(ends: list[tuple[float, float]]) -> None:
    found = collected([np.array([low, high], np.float32).reshape(1, 2) for low, high in ends], 0)
    weights = MOMENTUM ** np.arange(len(ends))[::-1]
    expected = weights @ np.array(ends, np.float32).astype(np.float64) / weights.sum()
    np.testing.assert_allclose([found.moving_low, found.moving_high], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_counts_for_nothing(statistics_of: Make, bad: float) -> None:
    found, before = statistics_of([1, 2]), statistics_of([1, 2])
    with pytest.raises(NotFinite):
        found.update(np.array([[[3, bad]]], np.float32), 1)
    for one, other in zip(found.to_state().values(), before.to_state().values(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_all_zeros_and_the_largest_values(statistics_of: Make) -> None:
    assert (statistics_of([0, 0]).low, statistics_of([0, 0]).high) == (0, 0)
    largest = float(np.finfo(np.float32).max)
    found = statistics_of([0.0, 1e-38], [0.0], [largest, -largest, 1.0])
    assert (found.low, found.high, found.elements) == (-largest, largest, 6)
    assert found.counts[[0, HALF, -1]].tolist() == [1, 4, 1]


def test_other_channels_are_refused() -> None:
    found = TensorStatistics(3)
    for shape in ((2, 4), (3, 0)):
        with pytest.raises(ValueError, match="channels"):
            found.update(np.zeros(shape, np.float32), 0)


@given(images)
@few
def test_the_state_is_all(arrays: list[npt.NDArray[np.float32]]) -> None:
    found = collected(arrays, 1)
    again = TensorStatistics.from_state(found.to_state())
    for each in (found, again):
        each.update(arrays[0] * np.float32(0.5), 1)
    for name, array in found.to_state().items():
        np.testing.assert_array_equal(again.to_state()[name], array, err_msg=name)


def test_another_state_is_refused(statistics_of: Make) -> None:
    state = statistics_of([1]).to_state()
    changes: list[dict[str, npt.NDArray[Any]]] = [
        {"counts": np.zeros(3, np.int64)},
        {"counts": np.array("x")},  # which is a plain value as soon as it is read
        {"counts": np.zeros(2 * HALF)},
        {"channel_max": np.zeros(2)},
        {"channel_min": np.array(-1)},
        {"channel_square": np.full(1, np.nan)},
        {"channels": np.array(2)},
        {"channels": np.array(2**40)},
        {"exponent": np.array(2**40)},
        {"count": np.array(0)},
        {"average_low": np.array("x")},
    ]
    assert TensorStatistics.from_state(state)
    for change in changes:
        with pytest.raises(ValueError, match=r"x|channel|count|exponent|average|size 1"):
            TensorStatistics.from_state(state | change)
