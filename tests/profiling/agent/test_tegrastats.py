"""The meter on a stand-in tegrastats, which prints lines as the real one does."""

import stat
import time
from pathlib import Path

import pytest

from evm_deploy.profiling.agent import tegrastats
from evm_deploy.profiling.agent.jetson import parse_line
from evm_deploy.profiling.agent.tegrastats import Tegrastats


def program(path: Path, text: str) -> list[str]:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return [str(path)]


def at(watts: float) -> str:
    return f"RAM 1/2MB VDD_IN {1000 * watts:.0f}mW/1mW"


def test_energy_is_power_over_time(tmp_path: Path) -> None:
    meter = Tegrastats.start(program(tmp_path / "tegrastats", f"while :; do echo '{at(5)}'; sleep 0.02; done"))
    assert meter is not None
    begun, joules = time.perf_counter(), meter.joules()
    time.sleep(0.3)
    passed = time.perf_counter() - begun
    assert meter.joules() - joules == pytest.approx(5 * passed, rel=0.1)
    meter.close()
    assert meter.last is not None
    assert meter.last.watts == 5


def test_each_power_counts_for_as_long_as_it_was_drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    meter = Tegrastats(program(tmp_path / "tegrastats", "exec sleep 60"))
    for moment, watts in ((100.0, 2.0), (101.0, 10.0), (101.5, 4.0)):
        meter._add(moment, parse_line(at(watts)))
    meter._add(101.7, parse_line("a line without power"))
    monkeypatch.setattr(tegrastats.time, "perf_counter", lambda: 102.0)
    assert meter.joules() == pytest.approx(2 * 1 + 10 * 0.5 + 4 * 0.5)
    monkeypatch.setattr(tegrastats.time, "perf_counter", lambda: 200.0)  # it has stopped talking
    assert meter.joules() == pytest.approx(2 * 1 + 10 * 0.5 + 4 * tegrastats.SILENT_SECONDS)
    meter.close()


@pytest.mark.parametrize("text", ["echo 'RAM 1/2MB cpu@40C'; exec sleep 60", "exit 1"])
def test_no_meter_where_no_power_is_told(tmp_path: Path, text: str) -> None:
    assert Tegrastats.start(program(tmp_path / "tegrastats", text), seconds=0.3) is None


def test_no_meter_where_there_is_no_program(tmp_path: Path) -> None:
    assert Tegrastats.start([str(tmp_path / "tegrastats")]) is None
    assert Tegrastats.open(tmp_path) is None
