"""The conditions of a measurement as a table: a row for each condition that a profile records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from evm_deploy.console import clean
from evm_deploy.profiling.report import ProfileReport, Snapshot
from evm_deploy.reporting.quantities import ABSENT, format_number
from evm_deploy.reporting.table import describe_method


@dataclass(frozen=True)
class Fact:
    """A condition and its value in each report; "" where a report does not have it."""

    name: str
    values: tuple[str, ...]


def _show_before_and_after(name: str, take: Callable[[Snapshot], str]) -> tuple[str, Callable[[ProfileReport], str]]:
    def both(report: ProfileReport) -> str:
        before, after = take(report.conditions.before), take(report.conditions.after)
        return before if before == after else f"{before or ABSENT} before, {after or ABSENT} after"

    return name, both


def _format_clocks(state: Snapshot) -> str:
    clocks = state.clocks_mhz
    if not clocks:
        return ""
    low, high = format_number(min(clocks), 4), format_number(max(clocks), 4)
    return f"{low} MHz" if low == high else f"{low} to {high} MHz"


def _format_temperatures(state: Snapshot) -> str:
    return ", ".join(f"{name} {format_number(value)} °C" for name, value in (state.temperatures_c or {}).items())


def _format_answer(value: bool | None) -> str:
    return "" if value is None else "yes" if value else "no"


def _format_pairs(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(values.items()))


def _format_memory(report: ProfileReport) -> str:
    size = report.device.memory_bytes
    return "" if size is None else f"{format_number(size / 1e9)} GB"


ROWS: tuple[tuple[str, Callable[[ProfileReport], str]], ...] = (
    ("device", lambda report: report.device.name),
    ("kind", lambda report: report.device.kind),
    ("system", lambda report: " ".join(filter(None, (report.device.os, report.device.machine)))),
    ("processor", lambda report: report.device.cpu or ""),
    ("features", lambda report: ", ".join(report.device.features)),
    ("cores", lambda report: "" if report.device.cores is None else str(report.device.cores)),
    ("memory", _format_memory),
    ("virtual machine", lambda report: _format_answer(report.device.virtual)),
    ("accelerator", lambda report: report.device.accelerator or ""),
    ("browser", lambda report: report.device.user_agent or ""),
    ("method", describe_method),
    ("least warm-up", lambda report: f"{report.method.warm_up} runs"),
    ("affinity", lambda report: ", ".join(map(str, report.conditions.affinity or ()))),
    (
        "limit",
        lambda report: "" if (limit := report.conditions.cpu_limit) is None else f"{format_number(limit)} cores' time",
    ),
    ("rounds", lambda report: "" if report.method.rounds is None else str(report.method.rounds)),
    _show_before_and_after("load", lambda state: "" if state.load is None else f"{state.load:.2f}"),
    _show_before_and_after("governor", lambda state: state.governor or ""),
    _show_before_and_after("clocks", _format_clocks),
    _show_before_and_after("temperatures", _format_temperatures),
    _show_before_and_after("throttled", lambda state: _format_answer(state.throttled)),
    ("power", lambda report: _format_pairs(report.conditions.power)),
    ("versions", lambda report: _format_pairs(report.conditions.versions)),
    ("measured", lambda report: f"{report.created}, evm-deploy {report.tool}"),
)


def collect_facts(reports: Sequence[ProfileReport]) -> list[Fact]:
    """Every condition that at least one report has."""
    found = [Fact(name, tuple(clean(take(report)) for report in reports)) for name, take in ROWS]
    return [fact for fact in found if any(fact.values)]
