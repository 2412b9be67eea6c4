"""Times all contenders in this process, in turns. Each round opens all of them again.

The place of a model's weights in memory changes its times by about half a per cent, until the model is opened again.
Without rounds, a bundle and its copy would seem to differ, with an interval that excludes 1.
"""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any

from . import energy, timing
from .alone import is_passed
from .bundle_files import CheckedBundle, check_bundle, compute_relative_error
from .runners import take_first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .request import AgentContender, AgentRequest
    from .runners import AgentRunner, AgentRuntime

    Say = Callable[[str], None]

ROUNDS = 10
LEAST_ROUNDS = 4  # fewer allow no conclusion
LEAST_TURNS = 2  # in a round
SETTLE = 2  # untimed turns after the models are opened again
LOADING = 5.0, 0.5  # time for opening: the larger of these seconds and this share of the timing
MOST_TURNS = 100_000
SAY_EVERY = 5.0  # seconds between progress messages


class OpenContender:
    """A contender that passed alone, while it is open in this process, and the result to fill."""

    def __init__(self, contender: AgentContender, row: AgentRuntime, result: dict[str, Any]) -> None:
        self.contender, self.row, self.result = contender, row, result
        self.bundle: CheckedBundle = check_bundle(contender.folder, contender.sha256)
        self.image, self.expected = self.bundle.read_golden()
        self.runner: AgentRunner | None = None

    def open(self, request: AgentRequest) -> None:
        """Opens the model. Raises ContenderFailure, also if its golden pair fails."""
        assert self.row.open is not None
        try:
            self.runner = self.row.open(self.contender, self.bundle, request)
            error = compute_relative_error(self.runner.call(self.image), self.expected)
        except Exception as problem:  # a runtime may raise anything
            raise ContenderFailure(self, take_first_line(problem)) from None
        if not is_passed(error, self.contender):
            raise ContenderFailure(self, "its golden pair fails when the other contenders are open")

    def call(self) -> None:
        """Runs the model once. Raises ContenderFailure."""
        assert self.runner is not None
        try:
            self.runner.call(self.image)
        except Exception as error:
            raise ContenderFailure(self, take_first_line(error)) from None

    def close(self) -> None:
        """Frees the model."""
        if self.runner is not None:
            self.runner.close()
        self.runner = None


class ContenderFailure(Exception):
    """A contender that passed alone has failed beside the others."""

    def __init__(self, who: OpenContender, why: str) -> None:
        super().__init__(why)
        self.who, self.why = who, why


def measure_in_rounds(
    live: list[OpenContender], request: AgentRequest, meter: Any, idle: float, say: Say
) -> tuple[int, list[str]]:
    """Fills the results. A contender that fails gets an error, and the others start again without it.

    Returns the number of rounds, and warnings.
    """
    while live:
        try:
            return _measure_once(live, request, meter, idle, say)
        except ContenderFailure as stopped:
            stopped.who.result["error"] = stopped.why
            stopped.who.close()
            live.remove(stopped.who)
        finally:
            for each in live:
                each.close()
    return 1, []


def _measure_once(
    live: list[OpenContender], request: AgentRequest, meter: Any, idle: float, say: Say
) -> tuple[int, list[str]]:
    _open_all(live, request)
    say("warming up")
    warm = timing.warm_up([each.call for each in live], request.warm_up)
    rounds = _choose_rounds(live, request, warm.turn_seconds)
    say("timing")
    turns = _time_turns(live, request, rounds, _make_teller(say))
    energies: list[Any] = [None] * len(live)
    if meter is not None:
        say("measuring energy")
        energies = [energy.measure_runs(meter, idle, each.call) for each in live]
    for index, each in enumerate(live):
        each.result["samples_ms"] = [round(turn[index], 6) for turn in turns]
        each.result["warm_up_runs"], each.result["steady"] = warm.runs, warm.steady[index]
        each.result["energy"] = energies[index]
    cut = request.seconds is not None and len(turns) >= MOST_TURNS // rounds * rounds
    return rounds, [f"timing ended early, after {len(turns)} runs of each"] if cut else []


def _time_turns(
    live: list[OpenContender], request: AgentRequest, rounds: int, tell: Callable[[int, int], None]
) -> list[timing.Turn]:
    calls = [each.call for each in live]
    found: list[timing.Turn] = []
    share: int | None = None  # turns in a round; if seconds are requested, the number of turns of the first round
    for number in range(rounds):
        if number:
            _open_all(live if number % 2 == 0 else live[::-1], request)
            timing.time_turns(calls, SETTLE, None, SETTLE)
        count, seconds = share, (request.seconds or 0) * len(live) / rounds
        if request.seconds is None:
            count = request.iterations * (number + 1) // rounds - request.iterations * number // rounds
        part = timing.time_turns(calls, count, seconds, MOST_TURNS // rounds, functools.partial(tell, len(found)))
        share = None if request.seconds is None else len(part)
        found += part
    return found


def _open_all(live: Sequence[OpenContender], request: AgentRequest) -> None:
    for each in live:
        each.close()
    for each in live:
        each.open(request)


def _choose_rounds(live: list[OpenContender], request: AgentRequest, turn_seconds: float) -> int:
    """The number of rounds, chosen so that opening the models does not take too long."""
    turn, asked = max(turn_seconds, 1e-6), request.seconds
    turns = request.iterations if asked is None else int(asked * len(live) / turn)
    loading = sum(each.result["load_ms"] for each in live) / 1e3 + SETTLE * turn
    fit = int(max(LOADING[0], LOADING[1] * turns * turn) / loading)
    rounds = min(ROUNDS, fit, turns // LEAST_TURNS)
    return rounds if rounds >= LEAST_ROUNDS else 1


def _make_teller(say: Say) -> Callable[[int, int], None]:
    said = [time.perf_counter()]

    def tell(before: int, turns: int) -> None:
        now = time.perf_counter()
        if now - said[0] > SAY_EVERY:
            say(f"timing: turn {before + turns}")
            said[0] = now

    return tell
