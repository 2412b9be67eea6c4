"""Turns, warm-up and rounds, with a clock that the tests turn."""

import itertools
from collections.abc import Callable, Iterator

import pytest

from evm_deploy.profiling.agent import timing
from evm_deploy.profiling.agent.timing import compute_quartiles, run_turns, time_interleaved, time_turns, warm_up


class Clock:
    """Seconds that pass only when a contender runs."""

    def __init__(self) -> None:
        self.now = 0.0
        self.called: list[str] = []

    def contender(self, name: str, times: Iterator[float]) -> Callable[[], None]:
        """Each call takes the next of `times`, milliseconds."""

        def call() -> None:
            self.called.append(name)
            self.now += next(times) / 1e3

        return call


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: made.now)
    monkeypatch.setattr(timing.time, "perf_counter_ns", lambda: round(made.now * 1e9))
    return made


def test_contenders_take_turns_and_only_the_last_call_of_a_turn_counts(clock: Clock) -> None:
    a = clock.contender("a", itertools.cycle((100.0, 1.0)))
    b = clock.contender("b", itertools.cycle((100.0, 2.0)))
    found = list(itertools.islice(run_turns([a, b]), 3))
    assert found == [pytest.approx((1.0, 2.0))] * 3
    assert "".join(clock.called) == "aabb" + "bbaa" + "aabb"


def test_interleaved_gives_the_times_by_name(clock: Clock) -> None:
    calls = {"a": clock.contender("a", itertools.repeat(1.0)), "b": clock.contender("b", itertools.repeat(3.0))}
    assert time_interleaved(calls, 4, settle=2) == {"a": pytest.approx([1.0] * 4), "b": pytest.approx([3.0] * 4)}
    assert len(clock.called) == 2 * 3 * 4
    assert time_interleaved(calls, 0) == {"a": [], "b": []}
    assert time_interleaved({}, 3) == {}


def test_warm_up_lasts_until_times_are_steady(clock: Clock) -> None:
    falling = itertools.chain((100 / (1 + step) for step in range(60)), itertools.repeat(1.6))
    found = warm_up([clock.contender("a", falling), clock.contender("b", itertools.repeat(20.0))], 5)
    assert found.steady == [True, True]
    assert 40 < found.runs < 2 * timing.WINDOW * timing.MOST_WINDOWS
    assert len(clock.called) == 2 * found.runs


def test_warm_up_of_what_is_steady_takes_two_windows(clock: Clock) -> None:
    found = warm_up([clock.contender("a", itertools.repeat(30.0))], 1)
    assert found.steady == [True]
    assert found.runs <= 2 * (2 * timing.WINDOW + 1)
    assert found.turn_seconds == pytest.approx(0.06)


def test_warm_up_gives_up_on_what_never_is(clock: Clock) -> None:
    growing = (10 * 1.05**step for step in itertools.count())
    found = warm_up([clock.contender("a", growing), clock.contender("b", itertools.repeat(10.0))], 5)
    assert found.steady == [False, True]


def test_short_runs_have_longer_windows(clock: Clock) -> None:
    found = warm_up([clock.contender("a", itertools.repeat(0.5))], 1)
    assert found.runs >= 2 * 2 * timing.MOST_OF_A_WINDOW


def test_warm_up_takes_the_turns_that_were_asked_for(clock: Clock) -> None:
    assert warm_up([clock.contender("a", itertools.repeat(30.0))], 40).runs >= 80


def test_timing_by_count_and_by_seconds(clock: Clock) -> None:
    call = clock.contender("a", itertools.repeat(10.0))
    assert len(time_turns([call], 7, None, 100)) == 7
    assert len(time_turns([call], None, 0.2, 100)) == 10  # each turn has two calls
    assert len(time_turns([call], None, 1e-9, 100)) == 1
    assert len(time_turns([call], None, 1e9, 100)) == 100


def test_quartiles() -> None:
    assert compute_quartiles([1.0, 2.0, 3.0]) == (1.0, 2.0, 3.0)
    assert compute_quartiles([4.0]) == (4.0, 4.0, 4.0)
