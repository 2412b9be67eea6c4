"""RAPL, from trees that the tests make and turn on."""

import itertools
from pathlib import Path

import pytest

from evm_deploy.profiling.agent import energy
from evm_deploy.profiling.agent.energy import Rapl, measure_idle_watts, measure_runs


def domain(root: Path, folder: str, name: str, energy: int, most: int = 1_000_000) -> Path:
    path = root / "sys/class/powercap" / folder
    path.mkdir(parents=True)
    (path / "name").write_text(name + "\n")
    (path / "energy_uj").write_text(f"{energy}\n")
    (path / "max_energy_range_uj").write_text(f"{most}\n")
    return path


def test_packages_and_their_memory_are_counted_once(tmp_path: Path) -> None:
    package = domain(tmp_path, "intel-rapl:0", "package-0", 0)
    core = domain(tmp_path, "intel-rapl:0:0", "core", 0)
    dram = domain(tmp_path, "intel-rapl:0:1", "dram", 0)
    psys = domain(tmp_path, "intel-rapl:1", "psys", 0)
    meter = Rapl.open(tmp_path)
    assert meter
    for path in (package, core, dram, psys):
        (path / "energy_uj").write_text("500000\n")
    assert meter.joules() == pytest.approx(1.0)


def test_a_counter_that_wraps_goes_on(tmp_path: Path) -> None:
    package = domain(tmp_path, "intel-rapl:0", "package-0", 900_000, most=999_999)
    meter = Rapl.open(tmp_path)
    assert meter
    (package / "energy_uj").write_text("100000\n")
    assert meter.joules() == pytest.approx(0.2)
    (package / "energy_uj").write_text("300000\n")
    assert meter.joules() == pytest.approx(0.4)


def test_none_where_there_is_none(tmp_path: Path) -> None:
    assert Rapl.open(tmp_path) is None
    domain(tmp_path, "intel-rapl:0:0", "dram", 0)
    assert Rapl.open(tmp_path) is None
    (domain(tmp_path, "intel-rapl:1", "package-1", 0) / "energy_uj").unlink()  # as for who may not read it
    assert Rapl.open(tmp_path) is None
    assert energy.find_meter(tmp_path) is None


class Meter:
    """Five watts at rest, fifteen while the contender runs."""

    source = "fake"

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.total = 0.0, 0.0
        monkeypatch.setattr(energy.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(energy.time, "sleep", lambda seconds: self.passes(seconds, 5))

    def passes(self, seconds: float, watts: float) -> None:
        self.now += seconds
        self.total += seconds * watts

    def joules(self) -> float:
        return self.total


def test_idle_is_subtracted(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = Meter(monkeypatch)
    idle = measure_idle_watts(meter)
    assert idle == pytest.approx(5)
    found = measure_runs(meter, idle, lambda: meter.passes(0.1, 15))
    assert found == {"source": "fake", "joules": pytest.approx(1.0), "watts": pytest.approx(15), "idle_watts": idle}


def test_less_than_idle_is_none_and_not_below(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = Meter(monkeypatch)
    assert measure_runs(meter, 5.0, lambda: meter.passes(0.1, 4))["joules"] == 0


def test_long_runs_are_repeated_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    meter, count = Meter(monkeypatch), itertools.count()

    def call() -> None:
        next(count)
        meter.passes(60.0, 15)

    measure_runs(meter, 5.0, call)
    assert next(count) == 1 + energy.RUNS
