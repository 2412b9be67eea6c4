"""All contenders in this process, in turns, opened anew for each round of them.

Where a model's weights come to lie makes a run about half a per cent longer or shorter, and that stays so until it is
opened again: without rounds a bundle would differ from its copy, with an interval that is sure of it.
"""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any

from . import energy, timing
from .alone import passed
from .bundle_files import Checked, check, relative_error
from .runners import line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .request import Contender, Request
    from .runners import Row, Runner

    Say = Callable[[str], None]

ROUNDS = 10
LEAST_ROUNDS = 4  # of fewer nothing can be said
LEAST_TURNS = 2  # of a round
SETTLE = 2  # turns after opening again
LOADING = 5.0, 0.5  # seconds that opening may take, or share of the timing, whichever is more
MOST_TURNS = 100_000
SAY_EVERY = 5.0  # seconds


class Live:
    """A contender that passed in a process of its own, and the result that is to be filled."""

    def __init__(self, contender: Contender, row: Row, result: dict[str, Any]) -> None:
        self.contender, self.row, self.result = contender, row, result
        self.bundle: Checked = check(contender.folder, contender.sha256)
        self.image, self.expected = self.bundle.golden()
        self.runner: Runner | None = None

    def open(self, request: Request) -> None:
        """Raises Stopped, also where the golden pair is not met."""
        assert self.row.open is not None
        try:
            self.runner = self.row.open(self.contender, self.bundle, request)
            error = relative_error(self.runner.call(self.image), self.expected)
        except Exception as problem:  # of a runtime, which raises what it likes
            raise Stopped(self, line(problem)) from None
        if not passed(error, self.contender):
            raise Stopped(self, "beside the others it does not give what the golden pair says")

    def call(self) -> None:
        """A run. Raises Stopped."""
        assert self.runner is not None
        try:
            self.runner.call(self.image)
        except Exception as error:
            raise Stopped(self, line(error)) from None

    def close(self) -> None:
        """Frees the model."""
        if self.runner is not None:
            self.runner.close()
        self.runner = None


class Stopped(Exception):
    """A contender that failed where it had passed alone."""

    def __init__(self, who: Live, why: str) -> None:
        super().__init__(why)
        self.who, self.why = who, why


def measure(live: list[Live], request: Request, meter: Any, idle: float, say: Say) -> tuple[int, list[str]]:
    """Fills the results; those that fail get an error, and the others begin again without them.

    Returns the number of rounds, and warnings.
    """
    while live:
        try:
            return _measure(live, request, meter, idle, say)
        except Stopped as stopped:
            stopped.who.result["error"] = stopped.why
            stopped.who.close()
            live.remove(stopped.who)
        finally:
            for each in live:
                each.close()
    return 1, []


def _measure(live: list[Live], request: Request, meter: Any, idle: float, say: Say) -> tuple[int, list[str]]:
    _open(live, request)
    say("warming up")
    warm = timing.warm_up([each.call for each in live], request.warm_up)
    rounds = _rounds(live, request, warm.turn_seconds)
    say("timing")
    turns = _turns(live, request, rounds, _teller(say))
    energies: list[Any] = [None] * len(live)
    if meter is not None:
        say("measuring energy")
        energies = [energy.of_runs(meter, idle, each.call) for each in live]
    for index, each in enumerate(live):
        each.result["samples_ms"] = [round(turn[index], 6) for turn in turns]
        each.result["warm_up_runs"], each.result["steady"] = warm.runs, warm.steady[index]
        each.result["energy"] = energies[index]
    cut = request.seconds is not None and len(turns) >= MOST_TURNS // rounds * rounds
    return rounds, [f"timing ended after {len(turns)} runs of each, before its time"] if cut else []


def _turns(live: list[Live], request: Request, rounds: int, tell: Callable[[int, int], None]) -> list[timing.Turn]:
    calls = [each.call for each in live]
    found: list[timing.Turn] = []
    share: int | None = None  # turns of a round, where seconds were asked for: as many as the first took
    for number in range(rounds):
        if number:
            _open(live if number % 2 == 0 else live[::-1], request)
            timing.timed(calls, SETTLE, None, SETTLE)
        count, seconds = share, (request.seconds or 0) * len(live) / rounds
        if request.seconds is None:
            count = request.iterations * (number + 1) // rounds - request.iterations * number // rounds
        part = timing.timed(calls, count, seconds, MOST_TURNS // rounds, functools.partial(tell, len(found)))
        share = None if request.seconds is None else len(part)
        found += part
    return found


def _open(live: Sequence[Live], request: Request) -> None:
    for each in live:
        each.close()
    for each in live:
        each.open(request)


def _rounds(live: list[Live], request: Request, turn_seconds: float) -> int:
    """As many as opening is not too dear for."""
    turn, asked = max(turn_seconds, 1e-6), request.seconds
    turns = request.iterations if asked is None else int(asked * len(live) / turn)
    loading = sum(each.result["load_ms"] for each in live) / 1e3 + SETTLE * turn
    fit = int(max(LOADING[0], LOADING[1] * turns * turn) / loading)
    rounds = min(ROUNDS, fit, turns // LEAST_TURNS)
    return rounds if rounds >= LEAST_ROUNDS else 1


def _teller(say: Say) -> Callable[[int, int], None]:
    said = [time.perf_counter()]

    def tell(before: int, turns: int) -> None:
        now = time.perf_counter()
        if now - said[0] > SAY_EVERY:
            say(f"timing: turn {before + turns}")
            said[0] = now

    return tell
