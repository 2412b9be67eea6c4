"""Ranges, against searches that try everything on the values themselves."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evm_deploy.calib.grid import Grid, compute_divergence, compute_squared_error
from evm_deploy.calib.quantize_options import METHODS as NAMES
from evm_deploy.calib.ranges import BINS, METHODS, SMALLEST, Range, choose_range
from evm_deploy.calib.statistics import HALF, TensorStatistics
from evm_deploy.errors import OptionError

Make = Callable[..., TensorStatistics]
Values = npt.NDArray[np.float64]

SHAPES: dict[str, Callable[[np.random.Generator], Values]] = {
    "normal": lambda rng: rng.standard_normal(20_000),
    "laplace": lambda rng: rng.laplace(size=20_000),
    "heavy": lambda rng: rng.standard_t(2.5, 20_000),
    "relu": lambda rng: np.maximum(rng.standard_normal(20_000), 0),
    "silu": lambda rng: (lambda x: x / (1 + np.exp(-x)))(3 * rng.standard_normal(20_000)),
    "negative": lambda rng: -np.abs(rng.laplace(size=20_000)),
    "far": lambda rng: 7 + rng.standard_normal(20_000),
    "outliers": lambda rng: np.append(rng.standard_normal(20_000), [60.0, -45.0]),
}
tensors = st.tuples(st.sampled_from(sorted(SHAPES)), st.integers(0, 99), st.sampled_from([1e-6, 0.3, 1.0, 1e7]))


def values_of(tensor: tuple[str, int, float]) -> Values:
    shape, seed, scale = tensor
    return (SHAPES[shape](np.random.default_rng(seed)) * scale).astype(np.float32).astype(np.float64)


def rounded(values: Values, found: tuple[float, float], levels: int, symmetric: bool) -> Values:
    """What a runtime makes of values: through integers and back."""
    low, high = found
    if symmetric:
        top = levels // 2 - 1
        return np.clip(np.round(values / (high / top)), -top, top) * (high / top)
    scale = (high - low) / (levels - 1)
    zero = np.round(-low / scale)
    return (np.clip(np.round(values / scale) + zero, 0, levels - 1) - zero) * scale


def loss(values: Values, found: Any, levels: int, symmetric: bool) -> float:
    ends = (found.low, found.high) if isinstance(found, Range) else found
    return float(((values - rounded(values, ends, levels, symmetric)) ** 2).mean())


def test_every_method_that_can_be_asked_for() -> None:
    assert set(METHODS) == set(NAMES)


@given(tensors, st.sampled_from(sorted(METHODS)), st.booleans())
@settings(max_examples=40)
def test_every_range_is_around_zero_and_within_the_values(
    statistics_of: Make, tensor: tuple[str, int, float], method: str, symmetric: bool
) -> None:
    values = values_of(tensor)
    found = choose_range(statistics_of(values), method, symmetric=symmetric)
    assert found.low <= 0 <= found.high
    assert found.high > found.low
    if symmetric:
        assert found.low == -found.high
        assert found.high <= np.abs(values).max()
    else:
        assert min(values.min(), 0) <= found.low
        assert found.high <= max(values.max(), 0)
    assert choose_range(statistics_of(values * 2), method, symmetric=symmetric) == Range(2 * found.low, 2 * found.high)


@given(tensors)
@settings(max_examples=20)
def test_minmax(statistics_of: Make, tensor: tuple[str, int, float]) -> None:
    values = values_of(tensor)
    found = statistics_of(values)
    assert choose_range(found, "minmax", symmetric=False) == Range(min(values.min(), 0), max(values.max(), 0))
    assert choose_range(found, "minmax", symmetric=True) == Range(-np.abs(values).max(), np.abs(values).max())


def test_moving_averages_forget(statistics_of: Make) -> None:
    found = choose_range(statistics_of([-1, 2], [-3, 4]), "moving-average", symmetric=False)
    assert found.low == pytest.approx(-(0.99 * 1 + 3) / 1.99)
    assert found.high == pytest.approx((0.99 * 2 + 4) / 1.99)
    assert choose_range(statistics_of([-1, 2], [-3, 4]), "moving-average", symmetric=True).high == pytest.approx(
        found.high
    )


@given(tensors, st.floats(90, 100))
@settings(max_examples=30)
def test_percentile_within_a_bin(statistics_of: Make, tensor: tuple[str, int, float], percentile: float) -> None:
    values = values_of(tensor)
    found = statistics_of(values)
    width = found.limit / HALF
    tails = np.percentile(values, [(100 - percentile) / 2, (100 + percentile) / 2], method="lower")
    upper = np.percentile(values, [(100 - percentile) / 2, (100 + percentile) / 2], method="higher")
    chosen = choose_range(found, "percentile", symmetric=False, percentile=percentile)
    assert min(tails[0], 0) - width <= chosen.low <= min(upper[0], 0) + width
    assert max(tails[1], 0) - width <= chosen.high <= max(upper[1], 0) + width
    both = choose_range(found, "percentile", symmetric=True, percentile=percentile).high
    assert np.percentile(np.abs(values), percentile, method="lower") - width <= both
    assert both <= np.percentile(np.abs(values), percentile, method="higher") + width


@given(tensors, st.sampled_from([16, 256]), st.booleans())
@settings(max_examples=25)
def test_mse_against_brute_force(
    statistics_of: Make, tensor: tuple[str, int, float], levels: int, symmetric: bool
) -> None:
    values = values_of(tensor)
    low, high = min(values.min(), 0), max(values.max(), 0)
    shares = np.linspace(0.02, 1, 50)
    if symmetric:
        tried = [(0.0, max(-low, high) * share) for share in shares]
    else:  # all pairs of ends, where there are two
        ends = [[end * share for share in shares[::4]] if end else [0.0] for end in (low, high)]
        tried = [(a, b) for a in ends[0] for b in ends[1]]
    best = min(loss(values, ends, levels, symmetric) for ends in tried)
    found = choose_range(statistics_of(values), "mse", symmetric=symmetric, levels=levels)
    assert loss(values, found, levels, symmetric) <= 1.03 * best


@given(tensors, st.sampled_from([16, 256]), st.booleans(), st.floats(0.05, 1))
@settings(max_examples=40)
def test_the_expected_error_is_that_of_the_values(
    statistics_of: Make, tensor: tuple[str, int, float], levels: int, symmetric: bool, share: float
) -> None:
    values = values_of(tensor)
    low, high = share * min(values.min(), 0), share * max(values.max(), 0)
    if symmetric:
        low, high = -max(-low, high), max(-low, high)
    expected = compute_squared_error(*statistics_of(values).histogram(), Grid.from_range(low, high, levels, symmetric))
    assert expected == pytest.approx(loss(values, (low, high), levels, symmetric), rel=0.05)


def slow_divergence(edges: Values, counts: Values, limit: float, integers: int) -> float:
    """KL of magnitudes, a bin at a time, with what no integer tells of given a little probability."""
    step, middle = limit / (integers - 1), (edges[1:] + edges[:-1]) / 2
    inside = [i for i, at in enumerate(middle) if at < limit]
    p, q = counts[inside].copy(), np.zeros(len(inside))
    p[-1] += counts[len(inside) :].sum()
    for level in range(integers):
        members = [i for i in inside if round(middle[i] / step) == level and counts[i]]
        for i in members:
            q[i] = sum(counts[j] for j in members) / len(members)
    q = (1 - 1e-4) * q / q.sum() + 1e-4 / len(q)
    p = p / p.sum()
    return float(sum(p[i] * np.log(p[i] / q[i]) for i in range(len(p)) if p[i]))


@given(tensors, st.floats(0.1, 1))
@settings(max_examples=12)
def test_divergence_against_a_loop(statistics_of: Make, tensor: tuple[str, int, float], share: float) -> None:
    edges, counts = statistics_of(values_of(tensor)).histogram(512, folded=True)
    limit = share * edges[-1]
    if not counts[: np.searchsorted((edges[1:] + edges[:-1]) / 2, limit)].any():
        return
    expected = slow_divergence(edges, counts, limit, 64)
    assert compute_divergence(edges, counts, Grid.from_range(0, limit, 128, True)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_entropy_is_near_the_best_of_every_threshold(statistics_of: Make, shape: str) -> None:
    found = statistics_of(values_of((shape, 0, 1.0)))
    edges, counts = found.histogram(BINS, folded=True)
    at_zero = edges[:-1] == 0
    counts[at_zero] = min(counts[0], counts[1])
    ends = [end for end in edges[1:] if end >= 128 * np.diff(edges).max()]
    costs = [compute_divergence(edges, counts, Grid.from_range(-end, end, 256, True)) for end in ends]
    chosen = choose_range(found, "entropy", symmetric=True)
    mine = compute_divergence(edges, counts, Grid.from_range(chosen.low, chosen.high, 256, True))
    assert mine <= min(costs) + 0.05 * (max(costs) - min(costs))  # costs of neighbours differ by that


def test_entropy_and_percentile_cut_outliers_that_minmax_keeps(statistics_of: Make) -> None:
    values = np.append(np.random.default_rng(0).standard_normal(200_000), [60.0, -45.0])
    for symmetric in (False, True):
        for method in ("entropy", "percentile"):
            assert choose_range(statistics_of(values), method, symmetric=symmetric).high < 20
        assert choose_range(statistics_of(values), "minmax", symmetric=symmetric).high == 60


@pytest.mark.parametrize("method", sorted(METHODS))
def test_degenerate_tensors(statistics_of: Make, method: str) -> None:
    def both(*values: float) -> list[Any]:
        ranges = [choose_range(statistics_of(list(values)), method, symmetric=symmetric) for symmetric in (False, True)]
        return [pytest.approx((found.low, found.high), rel=1e-4, abs=0) for found in ranges]

    assert both(0.0, 0.0) == [(0, 1), (-1, 1)]
    assert both(3.0) == [(0, 3), (-3, 3)]
    assert both(-3.0, -3.0) == [(-3, 0), (-3, 3)]
    assert both(1e-30) == [(0, SMALLEST), (-SMALLEST, SMALLEST)]
    rare = [0.0] * 300_000 + [1.0]
    assert choose_range(statistics_of(rare), method, symmetric=False).high > 1e-3


def test_what_cannot_be_chosen(statistics_of: Make) -> None:
    with pytest.raises(OptionError, match="did you mean 'entropy'"):
        choose_range(statistics_of([1]), "entropie", symmetric=True)
    with pytest.raises(OptionError, match="never seen"):
        choose_range(TensorStatistics(1), "mse", symmetric=True)
    for low, high in ((1, 2), (-2, -1), (0, np.inf)):
        with pytest.raises(ValueError, match="not a range"):
            Range(low, high)
