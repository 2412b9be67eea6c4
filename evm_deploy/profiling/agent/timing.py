"""Timing that survives a shared machine: contenders take turns in one process, and turns are compared."""

from __future__ import annotations

import itertools
import math
import statistics
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # Python 3.8 cannot make these names
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Call = Callable[[], object]
    Turn = tuple[float, ...]  # milliseconds of each contender

WINDOW = 5  # turns, at least
WINDOW_SECONDS = 0.1  # that a window lasts at least: runs of a fraction of a millisecond need more of them
MOST_OF_A_WINDOW = 100  # turns
AGREE = 0.05  # medians of two windows that differ by less are one
MOST_WINDOWS = 24
MOST_SECONDS = 20.0  # of warm-up, for each contender


class WarmUp:
    """How a warm-up ended: the calls that each contender took, which of them were steady by then, a turn's seconds."""

    def __init__(self, runs: int, steady: list[bool], turn_seconds: float) -> None:
        self.runs, self.steady, self.turn_seconds = runs, steady, turn_seconds


def turns(calls: Sequence[Call], settle: int = 1) -> Iterator[Turn]:
    """Milliseconds of one call of each contender, turn by turn, without an end.

    In a turn each is called `settle` times without being timed, which brings back the caches that the others took,
    and once timed. Every second turn goes backwards: what follows whom favours nobody.
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


def interleaved(contenders: Mapping[str, Call], rounds: int, settle: int = 1) -> dict[str, list[float]]:
    """Milliseconds of each call of each contender, `rounds` of each, in turns."""
    rows = list(itertools.islice(turns(list(contenders.values()), settle), rounds))
    return {name: [row[index] for row in rows] for index, name in enumerate(contenders)}


def quartiles(times: Sequence[float]) -> tuple[float, float, float]:
    """The 25th, 50th and 75th percentile; of one time that."""
    if len(times) < 2:
        return times[0], times[0], times[0]
    low, middle, high = statistics.quantiles(times, n=4)
    return low, middle, high


def warm_up(calls: Sequence[Call], least: int, settle: int = 1) -> WarmUp:
    """Runs all in turns until each has done `least` turns and the medians of its last two windows agree within AGREE.

    A window has WINDOW turns, or as many as last WINDOW_SECONDS. It ends after MOST_WINDOWS, or MOST_SECONDS for each
    contender, with those that are not steady by then told apart.
    """
    source = turns(calls, settle)
    begun = time.perf_counter()
    history = [next(source)]
    window = _window(time.perf_counter() - begun)
    while True:
        history += itertools.islice(source, window)
        columns = [[turn[index] for turn in history] for index in range(len(calls))]
        steady = [_agree(column, window) for column in columns]
        passed = time.perf_counter() - begun
        over = len(history) >= MOST_WINDOWS * window or passed > MOST_SECONDS * len(calls)
        if len(history) >= least and (over or all(steady)):
            return WarmUp(len(history) * (1 + settle), steady, passed / len(history))


def timed(
    calls: Sequence[Call],
    count: int | None,
    seconds: float | None,
    most: int,
    tell: Callable[[int], None] = lambda turns: None,
) -> list[Turn]:
    """`count` turns, or where that is None as many as take `seconds`, 1 to `most` of them."""
    found: list[Turn] = []
    begun = time.perf_counter()
    for turn in turns(calls):
        found.append(turn)
        tell(len(found))
        if len(found) >= (count or most):
            break
        if count is None and time.perf_counter() - begun >= (seconds or 0):
            break
    return found


def _window(turn_seconds: float) -> int:
    return max(WINDOW, min(MOST_OF_A_WINDOW, math.ceil(WINDOW_SECONDS / max(turn_seconds, 1e-6))))


def _agree(times: Sequence[float], window: int) -> bool:
    if len(times) < 2 * window:
        return False
    last, before = statistics.median(times[-window:]), statistics.median(times[-2 * window : -window])
    return abs(last - before) <= AGREE * max(last, before)
