"""Intervals: right of independent samples, wider of correlated ones, and the same as of series that are written out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evm_deploy.profiling import bootstrap
from evm_deploy.profiling.bootstrap import (
    Floats,
    choose_block_length,
    draw_series,
    estimate_intervals,
    estimate_median_ratio,
)

TIMES = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=60)
QUANTILES = (0.0, 0.25, 0.5, 0.9, 0.99, 1.0)


def autocorrelated(series: int, n: int, phi: float) -> Floats:
    """(series, n) of variance 1 and mean 0; neighbours correlate by phi."""
    values = np.random.default_rng(0).normal(size=(n, series))
    for index in range(1, n):
        values[index] = phi * values[index - 1] + np.sqrt(1 - phi**2) * values[index]
    return values.T.copy()


def covered(phi: float, n: int = 100, tries: int = 150) -> float:
    """The share of intervals of the median that hold the true one."""
    found = (estimate_intervals(10 + samples, (0.5,))[1] for samples in autocorrelated(tries, n, phi))
    return sum(each.low <= 10 <= each.high for each in found) / tries


def test_95_of_100_intervals_hold_the_truth() -> None:
    assert 0.88 <= covered(0.0) <= 0.999


def test_neighbours_that_are_alike_do_not_count_as_more_knowledge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many intervals would miss the truth if runs were drawn one by one."""
    assert covered(0.7, n=200) >= 0.82
    monkeypatch.setattr(bootstrap, "choose_block_length", lambda samples: 1)
    assert covered(0.7, n=200) < 0.75


def test_blocks_grow_with_correlation() -> None:
    lengths = [np.median([choose_block_length(each) for each in autocorrelated(9, 400, phi)]) for phi in (0, 0.6, 0.9)]
    assert lengths == sorted(lengths)
    assert lengths[0] <= 8 < lengths[1]


@settings(max_examples=40)
@given(TIMES)
def test_the_figures_are_those_of_numpy(times: list[float]) -> None:
    samples = np.array(times)
    found = estimate_intervals(samples, QUANTILES)
    assert [each.value for each in found] == pytest.approx([samples.mean(), *np.quantile(samples, QUANTILES)])
    slack = 1e-9 * samples.max()
    for each in found:
        assert samples.min() - slack <= each.low <= each.value <= each.high <= samples.max() + slack


@given(TIMES, st.integers(1, 60))
def test_counting_samples_gives_what_writing_series_out_gives(times: list[float], length: int) -> None:
    """As often as a series has each sample, so often it is repeated; the quantiles of both are the same."""
    samples, random = np.array(times), np.random.default_rng(1)
    length = min(length, len(samples))
    often = bootstrap._draw_blocks(random, 3, len(samples), length)
    starts = np.random.default_rng(1).integers(0, len(samples), (3, -(-len(samples) // length)))
    order = np.argsort(samples)
    found = bootstrap._compute_statistics(samples[order], often[:, order], QUANTILES)
    for row, mine in zip(found, starts, strict=True):
        written = np.concatenate([np.roll(samples, -start)[:length] for start in mine])
        assert row == pytest.approx([written.mean(), *np.quantile(written, QUANTILES)])


@given(st.integers(4, 12), st.integers(0, 5))
def test_rounds_are_drawn_whole(rounds: int, more: int) -> None:
    samples = np.arange(rounds * 3 + min(more, rounds - 1), dtype=np.float64)
    (often,) = bootstrap._draw_rounds(np.random.default_rng(0), 1, len(samples), rounds)
    parts = np.split(often, len(samples) * np.arange(1, rounds) // rounds)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert all(len(set(part)) == 1 for part in parts)
    assert sum(part[0] for part in parts) == rounds


def test_what_differs_from_round_to_round_is_in_the_interval() -> None:
    """Each round a little slower or faster, runs within it alike: blocks would be sure of what they cannot know."""
    random = np.random.default_rng(0)
    rounds = [1 + 0.01 * random.normal() + 1e-4 * random.normal(size=50) for _ in range(10)]
    found = estimate_intervals(np.concatenate(rounds), (0.5,), rounds=10)[1]
    assert found.high - found.low > 0.008
    whole = draw_series(np.repeat(np.arange(10.0), 50), (0.5,), rounds=10)
    assert whole.blocks == 10
    assert np.allclose(10 * whole.found[:, 0] % 1, 0)  # a mean of ten whole rounds, each all of one number


def test_the_same_samples_give_the_same_interval() -> None:
    samples = autocorrelated(1, 100, 0.5)[0] + 10
    assert estimate_intervals(samples, (0.5, 0.99)) == estimate_intervals(samples.copy(), (0.5, 0.99))


def test_many_samples_take_fewer_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(draw_series(np.ones(100), (0.5,)).found) == bootstrap.DRAWS
    monkeypatch.setattr(bootstrap, "WORK", 1000)
    assert len(draw_series(np.ones(1000), (0.5,)).found) == bootstrap.LEAST_DRAWS


def test_the_ratio_of_two_series_of_different_lengths() -> None:
    random = np.random.default_rng(0)
    found = estimate_median_ratio(random.normal(20, 1, 150), random.normal(10, 0.5, 90))
    assert found.low < 2 < found.high
    assert found.value == pytest.approx(2, abs=0.05)
    assert found.high - found.low < 0.15
