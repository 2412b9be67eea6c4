"""Timing on a machine shared with other programs: contenders take turns in one process, and turns are compared."""

from __future__ import annotations

import itertools
import math
import statistics
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # Python 3.8 cannot evaluate these types
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Call = Callable[[], object]
    Turn = tuple[float, ...]  # milliseconds of each contender

WINDOW = 5  # minimum number of turns
WINDOW_SECONDS = 0.1  # minimum duration, so that a window has many runs if they are very short
MOST_OF_A_WINDOW = 100  # maximum number of turns
AGREE = 0.05  # medians of two windows agree if they differ by less
MOST_WINDOWS = 24
MOST_SECONDS = 20.0  # maximum warm-up for each contender


class WarmUp:
    """The result of a warm-up: calls of each contender, which contenders were steady at its end, seconds of a turn."""

    def __init__(self, runs: int, steady: list[bool], turn_seconds: float) -> None:
        self.runs, self.steady, self.turn_seconds = runs, steady, turn_seconds


def run_turns(calls: Sequence[Call], settle: int = 1) -> Iterator[Turn]:
    """Yields the milliseconds of one call of each contender, turn by turn, without end.

    In a turn, each is called `settle` times untimed, which refills the caches that the others used, and then once
    timed. Every second turn runs in reverse order, so that the order favours no contender.
    """
    indices = range(len(calls))
    for order in itertools.cycle((indices, indices[::-1])):
        times = [0.0] * len(calls)
        for index in order:
            call = calls[index]
            for _ in range(settle):
                call()
            start = time.perf_counter_ns()
            call()
            times[index] = (time.perf_counter_ns() - start) / 1e6
        yield tuple(times)


def time_interleaved(contenders: Mapping[str, Call], rounds: int, settle: int = 1) -> dict[str, list[float]]:
    """Times `rounds` calls of each contender, in turns. Returns milliseconds."""
    rows = list(itertools.islice(run_turns(list(contenders.values()), settle), rounds))
    return {name: [row[index] for row in rows] for index, name in enumerate(contenders)}


def compute_quartiles(times: Sequence[float]) -> tuple[float, float, float]:
    """The 25th, 50th and 75th percentile; for a single time, that time."""
    if len(times) < 2:
        return times[0], times[0], times[0]
    low, middle, high = statistics.quantiles(times, n=4)
    return low, middle, high


def warm_up(calls: Sequence[Call], least: int, settle: int = 1) -> WarmUp:
    """Runs all contenders in turns until each has had `least` turns and the medians of its last two windows agree.

    A window has WINDOW turns or more, so that it lasts WINDOW_SECONDS. The warm-up ends after MOST_WINDOWS, or after
    MOST_SECONDS for each contender; the result says which contenders were steady.
    """
    source = run_turns(calls, settle)
    begun = time.perf_counter()
    history = [next(source)]
    window = _choose_window(time.perf_counter() - begun)
    while True:
        history += itertools.islice(source, window)
        columns = [[turn[index] for turn in history] for index in range(len(calls))]
        steady = [_agree(column, window) for column in columns]
        passed = time.perf_counter() - begun
        over = len(history) >= MOST_WINDOWS * window or passed > MOST_SECONDS * len(calls)
        if len(history) >= least and (over or all(steady)):
            return WarmUp(len(history) * (1 + settle), steady, passed / len(history))


def time_turns(
    calls: Sequence[Call],
    count: int | None,
    seconds: float | None,
    most: int,
    tell: Callable[[int], None] = lambda turns: None,
) -> list[Turn]:
    """Times `count` turns or, if it is None, as many as fit into `seconds`: 1 to `most` turns."""
    found: list[Turn] = []
    begun = time.perf_counter()
    for turn in run_turns(calls):
        found.append(turn)
        tell(len(found))
        if len(found) >= (count or most):
            break
        if count is None and time.perf_counter() - begun >= (seconds or 0):
            break
    return found


def _choose_window(turn_seconds: float) -> int:
    return max(WINDOW, min(MOST_OF_A_WINDOW, math.ceil(WINDOW_SECONDS / max(turn_seconds, 1e-6))))


def _agree(times: Sequence[float], window: int) -> bool:
    if len(times) < 2 * window:
        return False
    last, before = statistics.median(times[-window:]), statistics.median(times[-2 * window : -window])
    return abs(last - before) <= AGREE * max(last, before)
