"""The results of all reports in one list, each with what tells it from the others."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from evm_deploy.console import clean
from evm_deploy.errors import InputError
from evm_deploy.profiling.report import ProfileReport, Ratio, Result
from evm_deploy.reporting.accuracy import Accuracy, Share, match

COLOURS = 8  # of the style sheet; with more results they come round again


@dataclass(frozen=True)
class Entry:
    """One result, as every table and chart shows it."""

    result: Result
    device: str
    label: str  # unique among the entries, one line of printable characters
    title: str  # shorter, for where runtime and device are said beside it: the bundle, if that is enough
    colour: str  # class of the style sheet
    accuracy: Share | None
    ratio: Ratio | None  # against the first result of its report

    @property
    def measured(self) -> bool:
        """Whether there are times: a result that failed has none."""
        return self.result.error is None and self.result.summary is not None


def entries(reports: Sequence[ProfileReport], known: Sequence[Accuracy] = ()) -> tuple[Entry, ...]:
    """Every result of every report, in order. The reports have their summaries. Raises InputError: no report."""
    if not reports:
        raise InputError("there is no profile to report.", "name one that `evm-deploy profile --out` wrote.")
    devices = device_names(reports)
    several = len(reports) > 1
    found: list[Entry] = []
    for report, device in zip(reports, devices, strict=True):
        ratios = {ratio.name: ratio for ratio in report.ratios}
        alike = Counter((result.bundle, result.runtime) for result in report.results)
        for result in report.results:
            label = clean(f"{result.name} · {device}" if several else result.name)
            title = clean(result.bundle if alike[result.bundle, result.runtime] == 1 else result.name)
            colour = f"c{len(found) % COLOURS}"
            found.append(Entry(result, device, label, title, colour, match(known, result), ratios.get(result.name)))
    return tuple(found)


def device_names(reports: Sequence[ProfileReport]) -> list[str]:
    """A name for the device of each report; numbered where two have one name."""
    names = [clean(report.device.name) or report.device.kind for report in reports]
    counts, seen = Counter(names), Counter[str]()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(f"{name} ({seen[name]})" if counts[name] > 1 else name)
    return unique


def slug(words: str) -> str:
    """`words` as a part of a file's name, on every system: letters, digits, dots and dashes, 60 at most."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", words).strip("-.")[:60] or "result"
