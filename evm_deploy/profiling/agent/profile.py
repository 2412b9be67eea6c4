"""Makes a profile from a request: measures each contender alone, then all in turns, and records the conditions."""

from __future__ import annotations

import datetime
import os
import platform
from typing import TYPE_CHECKING, Any

import numpy as np

from . import conditions, energy, machine, rounds
from .bundle_files import Unmeasurable, check_bundle

if TYPE_CHECKING:
    from collections.abc import Callable

    from .request import AgentContender, AgentRequest
    from .runners import Rows

    Say = Callable[[str], None]
    Result = dict[str, Any]


def make_profile(request: AgentRequest, rows: Rows, fresh: Callable[[int], Result], say: Say) -> dict[str, Any]:
    """Makes the document that `evm_deploy.profiling.report` reads. fresh: measures contender number i alone."""
    before, heat = conditions.take_snapshot(), conditions.count_throttling()
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    results = []
    for index, contender in enumerate(request.contenders):
        say(f"checking {contender.name}")
        results.append(_check(contender, rows))
        if results[-1]["error"] is None and rows[contender.runner].open is not None:
            _fill(results[-1], fresh(index), contender, versions)
    count, warnings = _time_in_turns(request, rows, results, say)
    programs = _time_programs(request, rows, results, versions, say)
    after = conditions.take_snapshot()
    after["throttled"] = conditions.is_throttled(heat, conditions.count_throttling())
    return {
        "schema": "evm-deploy/profile",
        "version": 1,
        "device": machine.collect_facts(request.device),
        "conditions": _collect_conditions(request, before, after, versions),
        "method": {
            "iterations": None if request.seconds else request.iterations,
            "seconds": request.seconds,
            "warm_up": request.warm_up,
            "interleaved": not programs,
            "rounds": count,
        },
        "results": results,
        "created": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "tool": request.tool,
        "warnings": warnings,
    }


def _check(contender: AgentContender, rows: Rows) -> Result:
    """A result with the facts about the contender, or with the reason why it cannot be measured."""
    result: Result = {
        "name": contender.name,
        "bundle": contender.bundle,
        "runtime": contender.runner,
        "provider": None,
        "target": "",
        "precision": "",
        "sha256": contender.sha256,
        "size_bytes": 0,
        "error": None,
        "golden": None,
        "samples_ms": [],
        "notes": contender.notes,
        **contender.shown,
    }
    try:
        if contender.runner not in rows:
            raise Unmeasurable(f"this machine has no runtime {contender.runner!r}")
        bundle = check_bundle(contender.folder, contender.sha256)
        said = {"target": bundle.manifest["target"], "precision": bundle.manifest["precision"]}
        result.update({**said, "size_bytes": bundle.size, **contender.shown})
    except Unmeasurable as error:
        result["error"] = str(error)
    return result


def _fill(result: Result, found: Result, contender: AgentContender, versions: dict[str, str]) -> None:
    """Adds the fields in `found`. A contender that fails its golden pair is not timed."""
    versions.update(found.pop("versions", {}))
    result.update(found)
    golden = result["golden"]
    if result["error"] is None and golden is not None and not golden["passed"]:
        error = golden["relative_error"]
        how = "gives values that are not finite, or another shape" if error is None else f"is off by {error:.1e}"
        result["error"] = f"the golden pair {how}; the tolerance is {contender.tolerance:.1e}: not timed"
        result["samples_ms"] = []


def _time_in_turns(request: AgentRequest, rows: Rows, results: list[Result], say: Say) -> tuple[int, list[str]]:
    """Times the contenders that run in this process. Returns the number of rounds, and warnings."""
    live = [
        rounds.OpenContender(one, rows[one.runner], result)
        for one, result in _list_remaining(request, results)
        if rows[one.runner].open
    ]
    meter = energy.find_meter() if live else None
    try:
        return rounds.measure_in_rounds(live, request, meter, energy.measure_idle_watts(meter) if meter else 0.0, say)
    finally:
        if meter:
            meter.close()


def _time_programs(request: AgentRequest, rows: Rows, results: list[Result], versions: dict[str, str], say: Say) -> int:
    """Times the contenders that are separate programs, one after the other. Returns their number."""
    count = 0
    for one, result in _list_remaining(request, results):
        measure = rows[one.runner].measure
        if measure is None:
            continue
        count += 1
        say(f"timing {one.name}")
        try:
            _fill(result, measure(one, check_bundle(one.folder, one.sha256), request), one, versions)
        except Unmeasurable as error:
            result["error"] = str(error)
    return count


def _list_remaining(request: AgentRequest, results: list[Result]) -> list[tuple[AgentContender, Result]]:
    pairs = [(one, results[index]) for index, one in enumerate(request.contenders)]
    return [(one, result) for one, result in pairs if result["error"] is None]


def _collect_conditions(
    request: AgentRequest, before: Result, after: Result, versions: dict[str, str]
) -> dict[str, Any]:
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "before": before,
        "after": after,
        "threads": request.threads or len(request.affinity) or None,
        "affinity": sorted(affinity(0)) if affinity else None,
        "cpu_limit": machine.read_cpu_limit(),
        "versions": versions,
        "power": conditions.read_power_modes(),
    }
