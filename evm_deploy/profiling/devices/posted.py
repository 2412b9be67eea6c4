"""Checks a profile that a web page sent. It is untrusted, and must match what the page was asked to measure."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import json
from collections.abc import Iterator, Mapping
from typing import Any

from evm_deploy.errors import InputError
from evm_deploy.profiling.report import Golden, Method, ProfileReport, Result

LONGEST = 500  # most characters in a text
MOST = 64  # most entries in a list or an object, except for samples
FIX = "open the page that this evm-deploy serves."
WAYS = 8  # most ways in which a browser can run a bundle


@dataclasses.dataclass(frozen=True)
class ExpectedResult:
    """The facts that a result must state about its bundle."""

    target: str
    precision: str
    sha256: str
    size_bytes: int
    tolerance: float


def accept_profile(text: bytes, bundles: Mapping[str, ExpectedResult], method: Method) -> ProfileReport:
    """Reads the profile, sets its time and tool, and drops the values that are computed here.

    Raises InputError: it is not a browser's profile of exactly these bundles, measured with this method.
    """
    report = ProfileReport.from_json(text, "the posted profile")
    if problem := next(_find_problems(report, bundles, method), None) or _find_unbounded(json.loads(text)):
        raise InputError(f"the posted profile is refused: {problem}.", FIX)
    return dataclasses.replace(
        report,
        results=tuple(dataclasses.replace(one, summary=None, estimates=(), accuracy=None) for one in report.results),
        ratios=(),
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        tool=importlib.metadata.version("evm-deploy"),
    )


def _find_problems(report: ProfileReport, bundles: Mapping[str, ExpectedResult], method: Method) -> Iterator[str]:
    if report.device.kind != "browser":
        yield f"it was measured on {report.device.kind}"
    if report.method != method:
        yield "it was not measured with the requested method"
    if {one.bundle for one in report.results} != bundles.keys():
        yield "it is not of the bundles on the page"
    if len(report.results) > WAYS * len(bundles):
        yield "it has more results than there are ways to run"
    for one in report.results:
        yield from _check_result(one, bundles, method)
    if len({len(one.samples_ms) for one in report.results if one.error is None}) > 1:
        yield "its contenders did not take turns"


def _check_result(one: Result, bundles: Mapping[str, ExpectedResult], method: Method) -> Iterator[str]:
    known = bundles.get(one.bundle)
    if known is None:
        return
    facts = dataclasses.asdict(known)
    tolerance = facts.pop("tolerance")
    if any(getattr(one, name) != value for name, value in facts.items()):
        yield f"{one.bundle[:40]} is not a bundle that the page was given"
    if one.golden is None and one.error is None:
        yield "a bundle was timed without checking its golden pair"
    if one.golden is not None and one.golden != _judge(one.golden, tolerance):
        yield "a golden pair was not checked with its tolerance"
    if one.golden is not None and not one.golden.passed and one.error is None:
        yield "a bundle was timed although its golden pair failed"
    if method.seconds is None and len(one.samples_ms) > (method.iterations or 0):
        yield "it has more samples than requested"


def _judge(golden: Golden, tolerance: float) -> Golden:
    error = golden.relative_error
    return Golden(error, tolerance, passed=error is not None and 0 <= error <= tolerance)


def _find_unbounded(value: Any, name: str = "") -> str | None:
    """Describes the first value that is too long for a page's profile; None: there is none."""
    if isinstance(value, str) and len(value) > LONGEST:
        return f"{name or 'a text'} has more than {LONGEST} characters"
    if not isinstance(value, (dict, list)) or name == "samples_ms":
        return None
    if len(value) > MOST * (WAYS if name == "results" else 1):
        return f"{name or 'it'} has more than {MOST} entries"
    children = value.items() if isinstance(value, dict) else ((name + " entry", child) for child in value)
    for key, child in children:
        if len(key) > LONGEST:
            return "a name is too long"
        if problem := _find_unbounded(child, key):
            return problem
    return None
