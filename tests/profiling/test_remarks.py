"""Each condition that makes times worth less is said, and none is said of a quiet device."""

import dataclasses
from typing import Any

import pytest

from evm_deploy.profiling.remarks import list_warnings
from evm_deploy.profiling.report import Conditions, DeviceFacts, Method, ProfileReport, Result, Snapshot
from evm_deploy.profiling.summaries import add_summaries

TIMES = tuple(10 + 0.001 * (index % 7) for index in range(200))
RESULT = Result("a", "a", "r", None, "onnx", "fp32", "0" * 64, 1, samples_ms=TIMES, steady=True)
QUIET = Snapshot(0.1, "performance", (3000.0, 3000.0), {"cpu": 50.0}, False)
REPORT = ProfileReport(
    DeviceFacts("local", "here", cores=4, virtual=False),
    Conditions(QUIET, QUIET, threads=2),
    Method(200, None, 5, True),
    (RESULT,),
    "2030-01-01T00:00:00Z",
    "0",
)


def conditions(**changes: Any) -> ProfileReport:
    return dataclasses.replace(REPORT, conditions=dataclasses.replace(REPORT.conditions, **changes))


def before(**changes: Any) -> ProfileReport:
    return conditions(before=dataclasses.replace(QUIET, **changes))


def after(**changes: Any) -> ProfileReport:
    return conditions(after=dataclasses.replace(QUIET, **changes))


def result(**changes: Any) -> ProfileReport:
    return dataclasses.replace(REPORT, results=(dataclasses.replace(RESULT, **changes),))


def device(**changes: Any) -> ProfileReport:
    return dataclasses.replace(REPORT, device=dataclasses.replace(REPORT.device, **changes))


def two(interleaved: bool) -> ProfileReport:
    results = (RESULT, dataclasses.replace(RESULT, name="b"))
    return dataclasses.replace(REPORT, results=results, method=Method(200, None, 5, interleaved))


def test_nothing_is_said_of_a_quiet_device() -> None:
    assert list_warnings(add_summaries(REPORT)) == []


def test_nothing_is_said_of_what_is_not_known() -> None:
    bare = dataclasses.replace(REPORT, conditions=Conditions(), device=DeviceFacts("browser", "a phone"))
    assert list_warnings(add_summaries(bare)) == []
    assert list_warnings(add_summaries(result(samples_ms=(), error="it failed", steady=None))) == []


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (after(throttled=True), "throttled"),
        (after(temperatures_c={"cpu": 96.0}), "cpu was at 96 °C"),
        (after(clocks_mhz=(2000.0, 2600.0)), "clocks fell from 3000 to 2300 MHz"),
        (before(load=2.5), "busy before the measurement: load 2.5 on 4 cores"),
        (before(governor="powersave"), "powersave"),
        (conditions(threads=8), "8 threads share 4 cores"),
        (conditions(cpu_limit=1.5), "time of 1.5 cores"),
        (device(virtual=True), "virtual machine"),
        (result(steady=False), "a: times were not steady"),
        (result(samples_ms=(1.0,) * 100 + (2.0,) * 100), "a: the median is uncertain by"),
        (result(samples_ms=TIMES[:50]), "only 50 runs, p99"),
        (two(interleaved=False), "not timed in turns"),
    ],
)
def test_what_makes_times_worth_less_is_said(report: ProfileReport, said: str) -> None:
    found = add_summaries(report).warnings
    assert len(found) == 1
    assert said in found[0]


@pytest.mark.parametrize(
    "report",
    [
        after(temperatures_c={"cpu": 94.0}),
        after(clocks_mhz=(2800.0, 2800.0)),
        after(clocks_mhz=(4000.0, 4000.0)),
        before(load=1.9),
        before(governor="schedutil"),
        conditions(threads=4),
        conditions(cpu_limit=4.0),
        result(samples_ms=TIMES[:100]),
        two(interleaved=True),
    ],
)
def test_and_nothing_where_it_is_not_so_bad(report: ProfileReport) -> None:
    assert add_summaries(report).warnings == ()


def test_what_the_device_warned_of_stays() -> None:
    told = dataclasses.replace(before(load=2.5), warnings=("the page was hidden",))
    assert add_summaries(told).warnings[0] == "the page was hidden"
    assert len(add_summaries(told).warnings) == 2
