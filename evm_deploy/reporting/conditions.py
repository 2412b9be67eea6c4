"""What was measured on, and how: every condition that a profile records, a row each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from evm_deploy.console import clean
from evm_deploy.profiling.report import ProfileReport, Snapshot
from evm_deploy.reporting.quantities import ABSENT, number
from evm_deploy.reporting.table import method


@dataclass(frozen=True)
class Fact:
    """A condition, and what each report says of it; "" where it says nothing."""

    name: str
    values: tuple[str, ...]


def _change(name: str, take: Callable[[Snapshot], str]) -> tuple[str, Callable[[ProfileReport], str]]:
    def both(report: ProfileReport) -> str:
        before, after = take(report.conditions.before), take(report.conditions.after)
        return before if before == after else f"{before or ABSENT} before, {after or ABSENT} after"

    return name, both


def _clocks(state: Snapshot) -> str:
    clocks = state.clocks_mhz
    if not clocks:
        return ""
    low, high = number(min(clocks), 4), number(max(clocks), 4)
    return f"{low} MHz" if low == high else f"{low} to {high} MHz"


def _temperatures(state: Snapshot) -> str:
    return ", ".join(f"{name} {number(value)} °C" for name, value in (state.temperatures_c or {}).items())


def _yes(value: bool | None) -> str:
    return "" if value is None else "yes" if value else "no"


def _pairs(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(values.items()))


def _memory(report: ProfileReport) -> str:
    size = report.device.memory_bytes
    return "" if size is None else f"{number(size / 1e9)} GB"


ROWS: tuple[tuple[str, Callable[[ProfileReport], str]], ...] = (
    ("device", lambda report: report.device.name),
    ("kind", lambda report: report.device.kind),
    ("system", lambda report: " ".join(filter(None, (report.device.os, report.device.machine)))),
    ("processor", lambda report: report.device.cpu or ""),
    ("features", lambda report: ", ".join(report.device.features)),
    ("cores", lambda report: "" if report.device.cores is None else str(report.device.cores)),
    ("memory", _memory),
    ("virtual machine", lambda report: _yes(report.device.virtual)),
    ("accelerator", lambda report: report.device.accelerator or ""),
    ("browser", lambda report: report.device.user_agent or ""),
    ("method", method),
    ("least warm-up", lambda report: f"{report.method.warm_up} runs"),
    ("affinity", lambda report: ", ".join(map(str, report.conditions.affinity or ()))),
    ("limit", lambda report: "" if (limit := report.conditions.cpu_limit) is None else f"{number(limit)} cores' time"),
    ("rounds", lambda report: "" if report.method.rounds is None else str(report.method.rounds)),
    _change("load", lambda state: "" if state.load is None else f"{state.load:.2f}"),
    _change("governor", lambda state: state.governor or ""),
    _change("clocks", _clocks),
    _change("temperatures", _temperatures),
    _change("throttled", lambda state: _yes(state.throttled)),
    ("power", lambda report: _pairs(report.conditions.power)),
    ("versions", lambda report: _pairs(report.conditions.versions)),
    ("measured", lambda report: f"{report.created}, evm-deploy {report.tool}"),
)


def facts(reports: Sequence[ProfileReport]) -> list[Fact]:
    """Every condition that at least one report knows."""
    found = [Fact(name, tuple(clean(take(report)) for report in reports)) for name, take in ROWS]
    return [fact for fact in found if any(fact.values)]
