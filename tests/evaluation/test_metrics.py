"""Shares, changes and their intervals: against values by hand, and for what must hold of any."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evm_deploy.evaluation.metrics import (
    compute_mcnemar,
    count_confusion,
    measure_change,
    measure_classes,
    measure_share,
)
from evm_deploy.tasks.scores import find_best

PAIRS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


def hits(right: int, n: int) -> np.ndarray:
    return np.arange(n) < right


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [(8, 10, 0.4902, 0.9433), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (500, 1000, 0.4691, 0.5309)],
)
def test_wilson(right: int, n: int, low: float, high: float) -> None:
    found = measure_share(hits(right, n))
    assert found.value == right / n
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_share_lies_in_its_interval_which_narrows_with_more_images(case: tuple[int, int]) -> None:
    few, many = measure_share(hits(*case)), measure_share(hits(4 * case[0], 4 * case[1]))
    assert 0 <= few.low <= few.value <= few.high <= 1
    assert many.high - many.low < few.high - few.low


def test_wilson_holds_the_true_share_in_nineteen_of_twenty_samples() -> None:
    rng = np.random.default_rng(0)
    for p in (0.02, 0.5, 0.9):
        held = [(s := measure_share(rng.random(120) < p)).low <= p <= s.high for _ in range(2000)]
        assert 0.93 < np.mean(held) < 0.975


def test_change_by_hand() -> None:
    """Of 100 images 6 are lost and 2 won: Agresti-Min is (2 - 6)/102 with its standard error of 9 discordant."""
    others = hits(80, 100)
    mine = others.copy()
    mine[:6], mine[80:82] = False, True
    found = measure_change(mine, others)
    assert (found.lost, found.won, found.value) == (6, 2, -0.04)
    half = 1.96 * math.sqrt(9 - 16 / 102) / 102
    assert (found.low, found.high) == pytest.approx((-4 / 102 - half, -4 / 102 + half), abs=1e-5)
    assert found.p == pytest.approx(2 * (1 + 8 + 28) / 256)


@given(PAIRS)
def test_change_is_the_difference_of_the_shares_and_turns_with_its_sides(pairs: list[tuple[bool, bool]]) -> None:
    mine, others = np.array(pairs).T
    forth, back = measure_change(mine, others), measure_change(others, mine)
    assert forth.value == pytest.approx(measure_share(mine).value - measure_share(others).value)
    assert -1 <= forth.low <= forth.value + 1e-12
    assert forth.value - 1e-12 <= forth.high <= 1
    assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low))
    assert (forth.lost, forth.p) == (back.won, back.p)


def test_the_interval_of_a_change_holds_it_in_nineteen_of_twenty_samples() -> None:
    rng = np.random.default_rng(0)
    held = []
    for _ in range(2000):
        others = rng.random(300) < 0.9
        mine = np.where(rng.random(300) < 0.05, ~others, others)  # flips 0.045 away and 0.005 back: -0.04
        held.append((c := measure_change(mine, others)).low <= -0.04 <= c.high)
    assert 0.93 < np.mean(held) < 0.975


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_the_binomial_tail(won: int, lost: int) -> None:
    n, tail = won + lost, sum(math.comb(won + lost, k) for k in range(min(won, lost) + 1))
    assert compute_mcnemar(won, lost) == pytest.approx(min(1.0, 2 * tail / 2**n))


def test_mcnemar_of_many_does_not_overflow() -> None:
    assert 0 < compute_mcnemar(5200, 4800) < 1e-3


def test_best_classes_with_ties_to_the_lower() -> None:
    scores = np.array([[1, 3, 3, 0], [9, -1, 5, 7]], np.float32)
    assert find_best(scores, 3).tolist() == [[1, 2, 0], [0, 3, 2]]


def test_confusion_and_classes() -> None:
    matrix = count_confusion(np.array([0, 0, 1, 0]), np.array([0, 2, 1, 2]), 3)
    assert matrix.tolist() == [[1, 0, 2], [0, 1, 0], [0, 0, 0]]
    assert measure_classes(matrix) == (pytest.approx(1 / 3), 1.0, None)
