"""The order of measuring, with contenders that the tests make: they sleep, fail, or give the wrong answer."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evm_deploy.bundle import Bundle
from evm_deploy.profiling.agent import alone, energy, rounds
from evm_deploy.profiling.agent.bundle_files import Unmeasurable
from evm_deploy.profiling.agent.profile import make_profile
from evm_deploy.profiling.agent.request import AgentRequest
from evm_deploy.profiling.agent.runners import AgentRunner, AgentRuntime
from evm_deploy.profiling.profile_options import ProfileOptions
from evm_deploy.profiling.report import ProfileReport
from evm_deploy.profiling.requests import DeviceContender, write_request

GOLDEN = np.eye(3, dtype=np.float32)


class Book:
    """What happened, in order: `open a`, `run a`, `close a`."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def row(self, *, fails_at: int | None = None, gives: Any = GOLDEN, opens: int | None = None) -> AgentRuntime:
        """A runtime that fails at a run, or the time it is opened, or gives something else."""
        runs, opened = [0], [0]

        def open_(contender: Any, bundle: Any, asked: Any) -> AgentRunner:
            opened[0] += 1
            if opened[0] == opens:
                raise Unmeasurable("no memory is left")
            self.lines.append(f"open {contender.name}")

            def call(image: Any) -> list[Any]:
                runs[0] += 1
                if runs[0] == fails_at:
                    raise RuntimeError("the driver was lost\nand more")
                self.lines.append(f"run {contender.name}")
                return [gives]

            return AgentRunner("fake", None, call, lambda: self.lines.append(f"close {contender.name}"))

        return AgentRuntime(lambda: {"fake": "1.0"}, open_)

    def count(self, text: str) -> int:
        return self.lines.count(text)


@pytest.fixture
def book() -> Book:
    return Book()


@pytest.fixture
def told(
    make_bundle: Callable[..., Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., ProfileReport]:
    """The profile of contenders a, b, ... on these rows, the fresh processes played by this one."""
    monkeypatch.setattr(energy, "find_meter", lambda: None)

    def run(rows: Sequence[AgentRuntime], **options: Any) -> ProfileReport:
        bundle, table = make_bundle(tmp_path / "net"), dict(zip("abc", rows, strict=False))
        contenders = [DeviceContender(name, bundle, "net", name) for name in table]
        asked = AgentRequest(json.loads(write_request("local", contenders, ProfileOptions(**options))))

        def fresh(index: int) -> dict[str, Any]:
            assert alone.run_child(asked.contenders[index], asked, table, tmp_path / "alone.json") == 0
            found: dict[str, Any] = json.loads((tmp_path / "alone.json").read_text())
            return found

        found = make_profile(asked, table, fresh, lambda stage: None)
        return ProfileReport.from_json(json.dumps(found, allow_nan=False).encode())

    return run


def test_every_contender_is_alone_first(book: Book, told: Callable[..., ProfileReport]) -> None:
    report = told([book.row(), book.row()], iterations=8)
    assert book.lines[: 1 + 1 + alone.RUNS] == ["open a"] + ["run a"] * (1 + alone.RUNS)
    assert [len(result.samples_ms) for result in report.results] == [8, 8]
    assert report.conditions.versions["fake"] == "1.0"
    assert book.count("open a") == 1 + (report.method.rounds or 0)
    assert book.count("close a") >= book.count("open a") - 1  # the fresh process ends by itself


def test_models_are_opened_in_both_orders(book: Book, told: Callable[..., ProfileReport]) -> None:
    report = told([book.row(), book.row()], iterations=8)
    opened = "".join(line[-1] for line in book.lines if line.startswith("open"))[2:]
    assert report.method.rounds == 4
    assert opened == "abbaabba"


def test_a_contender_that_fails_is_left_out(book: Book, told: Callable[..., ProfileReport]) -> None:
    """The others begin again without it."""
    report = told([book.row(), book.row(fails_at=12), book.row()], iterations=6)
    assert [result.error for result in report.results] == [None, "the driver was lost", None]
    assert [len(result.samples_ms) for result in report.results] == [6, 0, 6]


def test_one_that_opens_alone_but_not_beside_the_others(book: Book, told: Callable[..., ProfileReport]) -> None:
    report = told([book.row(opens=2), book.row()], iterations=6)
    assert [result.error for result in report.results] == ["no memory is left", None]


def test_all_of_them_fail(book: Book, told: Callable[..., ProfileReport]) -> None:
    report = told([book.row(fails_at=1), book.row(opens=1)])
    assert [result.error for result in report.results] == ["the driver was lost", "no memory is left"]


@pytest.mark.parametrize("gives", [GOLDEN + 0.5, GOLDEN * np.nan, GOLDEN[:1]])
def test_a_wrong_answer_is_never_timed(book: Book, told: Callable[..., ProfileReport], gives: Any) -> None:
    (result,) = told([book.row(gives=gives)]).results
    assert result.golden
    assert not result.golden.passed
    assert "the golden pair" in (result.error or "")
    assert (result.samples_ms, book.count("open a")) == ((), 1)


def test_opening_that_takes_long_is_not_repeated(
    book: Book, told: Callable[..., ProfileReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "LOADING", (0.0, 0.0))
    report = told([book.row()], iterations=6)
    assert (report.method.rounds, book.count("open a")) == (1, 2)


def test_time_may_end_before_what_was_asked_for(
    book: Book, told: Callable[..., ProfileReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "MOST_TURNS", 40)
    report = told([book.row()], seconds=5.0)
    assert len(report.results[0].samples_ms) == 40
    assert report.warnings == ("timing ended early, after 40 runs of each",)


def test_energy_is_of_each_contender_alone(
    book: Book, told: Callable[..., ProfileReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Meter:
        source = "fake"
        closed = False

        def joules(self) -> float:
            return float(len(book.lines))

        def close(self) -> None:
            Meter.closed = True

    monkeypatch.setattr(energy, "find_meter", Meter)
    monkeypatch.setattr(energy, "measure_idle_watts", lambda meter: 0.0)
    monkeypatch.setattr(energy.measure_runs, "__defaults__", (0.0,))
    report = told([book.row(), book.row()], iterations=2)
    assert [round(result.energy.joules, 6) for result in report.results if result.energy] == [1.0, 1.0]
    assert Meter.closed


def test_a_way_that_this_machine_does_not_have(book: Book, told: Callable[..., ProfileReport]) -> None:
    rows = {"a": book.row()}
    report = told(list(rows.values()), iterations=2)
    assert report.results[0].error is None
    asked = {
        "name": "x",
        "bundle": "x",
        "folder": "none",
        "sha256": "0" * 64,
        "runner": "magic",
        "tolerance": 1,
    }
    options = {"iterations": 2, "warm_up": 1}
    whole = AgentRequest({"device": "local", "tool": "0", "contenders": [asked], "options": options})
    found = make_profile(whole, rows, lambda index: {}, lambda stage: None)
    assert found["results"][0]["error"] == "this machine has no runtime 'magic'"
    assert ProfileReport.from_json(json.dumps(found).encode()).results[0].samples_ms == ()


CRASH = """
import os, signal, sys
from evm_deploy.profiling.agent.program import main
from evm_deploy.profiling.agent.runners import AgentRuntime
crash = AgentRuntime(lambda: os.kill(os.getpid(), signal.SIGSEGV), lambda *args: None)
sys.exit(main(sys.argv[1:], [__file__], {"a": crash}))
"""


def test_a_runtime_that_crashes_takes_nobody_with_it(make_bundle: Callable[..., Bundle], tmp_path: Path) -> None:
    import subprocess
    import sys

    bundle = make_bundle(tmp_path / "net")
    (tmp_path / "crash.py").write_text(CRASH)
    text = write_request("local", [DeviceContender("a", bundle, "net", "a")], ProfileOptions())
    (tmp_path / "request.json").write_text(text)
    command = [sys.executable, tmp_path / "crash.py", tmp_path / "request.json", tmp_path / "out.json"]
    subprocess.run(command, check=True, capture_output=True)
    found = ProfileReport.from_json((tmp_path / "out.json").read_bytes())
    assert found.results[0].error == "the process that ran it ended with signal 11"
