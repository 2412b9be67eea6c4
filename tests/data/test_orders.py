"""Another order of the classes is found where there is one, and nowhere else."""

import re
from collections.abc import Callable

import numpy as np
import pytest

from evm_deploy.data.classes import describe_assumed_order, match_classes
from evm_deploy.data.orders import find_better_order

Ints = np.ndarray


def answer(labels: Ints, outputs: Ints, right: float, rng: np.random.Generator) -> Ints:
    """The answers of a network whose class i is output outputs[i], and which is right as often as this."""
    return np.where(rng.random(len(labels)) < right, outputs[labels], rng.integers(0, len(outputs), len(labels)))


def strings(count: int) -> Ints:
    """The output of class i where folders are read in the order of their names: 0, 1, 10, 11, ..."""
    return np.argsort(sorted(range(count), key=str))


@pytest.mark.parametrize(
    ("outputs", "each", "right"),
    [
        (strings(11), 20, 0.95),
        (strings(100), 10, 0.9),
        (np.roll(np.arange(10), 1), 20, 0.6),
        (np.array([1, 0, *range(2, 10)]), 40, 0.98),  # two of ten
        (np.array([1, 0]), 40, 0.9),
        (np.random.default_rng(0).permutation(1000), 6, 0.8),
    ],
    ids=["strings", "many strings", "shifted", "two", "both", "thousand"],
)
def test_another_order_is_found(outputs: Ints, each: int, right: float) -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(len(outputs)), each)
    found = find_better_order(labels, answer(labels, outputs, right, rng), len(outputs))
    assert found is not None
    assert np.mean(np.array(found.outputs) == outputs) > 0.98
    assert found.taken < found.top1 < 1.0
    assert abs(found.top1 - right) < 0.1


def test_an_imbalanced_one() -> None:
    rng = np.random.default_rng(2)
    labels = np.repeat(np.arange(4), [500, 30, 20, 15])
    found = find_better_order(labels, answer(labels, np.array([2, 3, 0, 1]), 0.9, rng), 4)
    assert found is not None
    assert found.outputs == (2, 3, 0, 1)


Answers = Callable[[Ints, np.random.Generator], Ints]


@pytest.mark.parametrize(
    "network",
    [
        lambda labels, rng: answer(labels, np.arange(10), 0.95, rng),
        lambda labels, rng: answer(labels, np.arange(10), 0.2, rng),
        lambda labels, rng: rng.integers(0, 10, len(labels)),
        lambda labels, rng: np.full(len(labels), 3),  # one answer to everything
        lambda labels, rng: np.where(labels == 0, 3, 7),  # two answers that tell one class
        lambda labels, rng: np.where(labels < 5, labels, labels - 5),  # half of the classes taken for others
        lambda labels, rng: rng.permutation(10)[labels // 2],
    ],
    ids=["good", "weak", "random", "one answer", "two answers", "blind", "five answers"],
)
@pytest.mark.parametrize("sizes", [[20] * 10, [2] * 10, [1] * 10, [900, 100, *[5] * 8], [300, *[0] * 9]])
def test_no_false_alarm(network: Answers, sizes: list[int]) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        labels = np.repeat(np.arange(10), sizes)
        assert find_better_order(labels, network(labels, rng), 10) is None


def test_networks_that_have_learnt_nothing() -> None:
    """Random linear ones, of classes that are well apart."""
    alarms = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        labels = np.repeat(np.arange(10), 20)
        points = rng.normal(size=(10, 16))[labels] * 3 + rng.normal(size=(200, 16))
        alarms += find_better_order(labels, (points @ rng.normal(size=(16, 10))).argmax(1), 10) is not None
    assert alarms <= 6


def test_few_images_decide_nothing() -> None:
    labels = np.repeat(np.arange(4), 4)
    assert find_better_order(labels, (labels + 1) % 4, 4) is None
    assert find_better_order(labels[:0], labels[:0], 4) is None


def test_the_words() -> None:
    labels = np.repeat(np.arange(11), 10)
    found = find_better_order(labels, strings(11)[labels], 11)
    assert found is not None
    text = found.describe(tuple(map(str, range(11))))
    assert "2 is output 3, 3 is output 4, 4 is output 5, 5 is output 6 and 5 more" in text
    assert "top-1 is 100.0%, not 18.2%" in text


@pytest.mark.parametrize(
    ("texts", "labels", "folders", "words"),
    [
        (["cat", "ant"], None, True, "outputs were taken for the classes by name, 0: ant, 1: cat"),
        (["cat", "ant"], None, False, "by name, 0: ant, 1: cat"),
        (["cat", "ant"], ("cat", "ant"), True, None),
        (list(map(str, range(10))), None, True, None),
        (list(map(str, range(12))), None, True, "folders' numbers .* would be 0: 0, 1: 1, 2: 10, 3: 11, ..., 11: 9"),
        (["1", "2"], None, True, "folders' numbers"),
        (list(map(str, range(12))), None, False, None),
        (["1", "2", "10"], ("1", "2", "10"), True, None),
        ([str(i) for i in range(12)], tuple("abcdefghijkl"), True, "folders' numbers"),
    ],
)
def test_what_was_assumed(texts: list[str], labels: tuple[str, ...] | None, folders: bool, words: str | None) -> None:
    named = texts if folders else None
    said = describe_assumed_order(match_classes(texts, labels, named), labels, named)
    if words is None:
        assert said is None
    else:
        assert said is not None
        assert re.search(words, said)
