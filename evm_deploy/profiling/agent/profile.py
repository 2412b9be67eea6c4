"""From a request to a profile, in order: every contender alone, all of them in turns, and what the machine did."""

from __future__ import annotations

import datetime
import os
import platform
from typing import TYPE_CHECKING, Any

import numpy as np

from . import conditions, energy, machine, rounds
from .bundle_files import Refused, check

if TYPE_CHECKING:
    from collections.abc import Callable

    from .request import Contender, Request
    from .runners import Rows

    Say = Callable[[str], None]
    Result = dict[str, Any]


def profile(request: Request, rows: Rows, fresh: Callable[[int], Result], say: Say) -> dict[str, Any]:
    """The document, as `evm_deploy.profiling.report` reads it. fresh: what `alone` finds of a contender."""
    before, heat = conditions.snapshot(), conditions.counters()
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    results = []
    for index, contender in enumerate(request.contenders):
        say(f"checking {contender.name}")
        results.append(_checked(contender, rows))
        if results[-1]["error"] is None and rows[contender.runner].open is not None:
            _fill(results[-1], fresh(index), contender, versions)
    count, warnings = _in_turns(request, rows, results, say)
    programs = _programs(request, rows, results, versions, say)
    after = conditions.snapshot()
    after["throttled"] = conditions.throttled(heat, conditions.counters())
    return {
        "schema": "evm-deploy/profile",
        "version": 1,
        "device": machine.facts(request.device),
        "conditions": _conditions(request, before, after, versions),
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


def _checked(contender: Contender, rows: Rows) -> Result:
    """A result that says what the contender is, or why it is not measured."""
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
            raise Refused(f"there is no way {contender.runner!r} to run it here")
        bundle = check(contender.folder, contender.sha256)
        said = {"target": bundle.manifest["target"], "precision": bundle.manifest["precision"]}
        result.update({**said, "size_bytes": bundle.size, **contender.shown})
    except Refused as error:
        result["error"] = str(error)
    return result


def _fill(result: Result, found: Result, contender: Contender, versions: dict[str, str]) -> None:
    """Adds what was found. A contender that does not give what the golden pair says has no times."""
    versions.update(found.pop("versions", {}))
    result.update(found)
    golden = result["golden"]
    if result["error"] is None and golden is not None and not golden["passed"]:
        error = golden["relative_error"]
        how = "is not finite, or of another shape" if error is None else f"is off by {error:.1e}"
        result["error"] = f"the golden pair {how}, {contender.tolerance:.1e} is allowed: not timed"
        result["samples_ms"] = []


def _in_turns(request: Request, rows: Rows, results: list[Result], say: Say) -> tuple[int, list[str]]:
    """Those that are run by this process; the number of rounds, and warnings."""
    live = [
        rounds.Live(one, rows[one.runner], result) for one, result in _left(request, results) if rows[one.runner].open
    ]
    meter = energy.meter() if live else None
    try:
        return rounds.measure(live, request, meter, energy.idle_watts(meter) if meter else 0.0, say)
    finally:
        if meter:
            meter.close()


def _programs(request: Request, rows: Rows, results: list[Result], versions: dict[str, str], say: Say) -> int:
    """Those that are programs of their own, one after the other; how many."""
    count = 0
    for one, result in _left(request, results):
        measure = rows[one.runner].measure
        if measure is None:
            continue
        count += 1
        say(f"timing {one.name}")
        try:
            _fill(result, measure(one, check(one.folder, one.sha256), request), one, versions)
        except Refused as error:
            result["error"] = str(error)
    return count


def _left(request: Request, results: list[Result]) -> list[tuple[Contender, Result]]:
    pairs = [(one, results[index]) for index, one in enumerate(request.contenders)]
    return [(one, result) for one, result in pairs if result["error"] is None]


def _conditions(request: Request, before: Result, after: Result, versions: dict[str, str]) -> dict[str, Any]:
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "before": before,
        "after": after,
        "threads": request.threads or len(request.affinity) or None,
        "affinity": sorted(affinity(0)) if affinity else None,
        "cpu_limit": machine.cpu_limit(),
        "versions": versions,
        "power": conditions.power(),
    }
