"""A profile that came from a web page: anybody's words, until they were held against what the page was given."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import json
from collections.abc import Iterator, Mapping
from typing import Any

from evm_deploy.errors import InputError
from evm_deploy.profiling.report import Golden, Method, ProfileReport, Result

LONGEST = 500  # characters of a text
MOST = 64  # entries of a list or an object, but for the samples
FIX = "open the page that this evm-deploy serves."
WAYS = 8  # in which one browser can run a bundle


@dataclasses.dataclass(frozen=True)
class Expected:
    """What a result of a bundle has to say of it."""

    target: str
    precision: str
    sha256: str
    size_bytes: int
    tolerance: float


def accepted(text: bytes, bundles: Mapping[str, Expected], method: Method) -> ProfileReport:
    """The profile, with the time and the tool that are known here, and without what is computed here.

    Raises InputError: not a profile of a browser, of these bundles alone, measured with this method.
    """
    report = ProfileReport.from_json(text, "the posted profile")
    if problem := next(_problems(report, bundles, method), None) or _unbounded(json.loads(text)):
        raise InputError(f"the posted profile is refused: {problem}.", FIX)
    return dataclasses.replace(
        report,
        results=tuple(dataclasses.replace(one, summary=None, estimates=(), accuracy=None) for one in report.results),
        ratios=(),
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        tool=importlib.metadata.version("evm-deploy"),
    )


def _problems(report: ProfileReport, bundles: Mapping[str, Expected], method: Method) -> Iterator[str]:
    if report.device.kind != "browser":
        yield f"it was measured on {report.device.kind}"
    if report.method != method:
        yield "it was not measured as was asked"
    if {one.bundle for one in report.results} != bundles.keys():
        yield "it is not of the bundles on the page"
    if len(report.results) > WAYS * len(bundles):
        yield "it has more results than there are ways"
    for one in report.results:
        yield from _wrong(one, bundles, method)
    if len({len(one.samples_ms) for one in report.results if one.error is None}) > 1:
        yield "its contenders did not take turns"


def _wrong(one: Result, bundles: Mapping[str, Expected], method: Method) -> Iterator[str]:
    known = bundles.get(one.bundle)
    if known is None:
        return
    facts = dataclasses.asdict(known)
    tolerance = facts.pop("tolerance")
    if any(getattr(one, name) != value for name, value in facts.items()):
        yield f"{one.bundle[:40]} is not the bundle that the page was given"
    if one.golden is None and one.error is None:
        yield "a bundle was timed without its golden pair"
    if one.golden is not None and one.golden != _judged(one.golden, tolerance):
        yield "a golden pair is not judged by its tolerance"
    if one.golden is not None and not one.golden.passed and one.error is None:
        yield "a bundle was timed whose golden pair failed"
    if method.seconds is None and len(one.samples_ms) > (method.iterations or 0):
        yield "it has more samples than were asked for"


def _judged(golden: Golden, tolerance: float) -> Golden:
    error = golden.relative_error
    return Golden(error, tolerance, passed=error is not None and 0 <= error <= tolerance)


def _unbounded(value: Any, name: str = "") -> str | None:
    """What is longer than a page has reason to say."""
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
        if problem := _unbounded(child, key):
            return problem
    return None
