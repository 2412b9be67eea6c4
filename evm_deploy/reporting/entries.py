"""The results of all reports in one list, each with a label that no other has."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from evm_deploy.console import clean
from evm_deploy.errors import InputError
from evm_deploy.profiling.report import ProfileReport, Ratio, Result
from evm_deploy.reporting.accuracy import Accuracy, AccuracyShare, match_accuracy

COLOURS = 8  # colours in the style sheet; with more results they repeat


@dataclass(frozen=True)
class ReportEntry:
    """One result, as every table and chart shows it."""

    result: Result
    device: str
    label: str  # unique among the entries, one line of printable characters
    title: str  # shorter, for places that show runtime and device too: the bundle's name if that is unique
    colour: str  # a class of the style sheet
    accuracy: AccuracyShare | None
    ratio: Ratio | None  # against the first result of its report

    @property
    def measured(self) -> bool:
        """Whether it has times; a failed result has none."""
        return self.result.error is None and self.result.summary is not None


def collect_entries(reports: Sequence[ProfileReport], known: Sequence[Accuracy] = ()) -> tuple[ReportEntry, ...]:
    """Every result of every report, in order. The reports must have summaries. Raises InputError: no report."""
    if not reports:
        raise InputError("there is no profile to report.", "name one that `evm-deploy profile --out` wrote.")
    devices = name_devices(reports)
    several = len(reports) > 1
    found: list[ReportEntry] = []
    for report, device in zip(reports, devices, strict=True):
        ratios = {ratio.name: ratio for ratio in report.ratios}
        alike = Counter((result.bundle, result.runtime) for result in report.results)
        for result in report.results:
            label = clean(f"{result.name} · {device}" if several else result.name)
            title = clean(result.bundle if alike[result.bundle, result.runtime] == 1 else result.name)
            colour = f"c{len(found) % COLOURS}"
            found.append(
                ReportEntry(
                    result, device, label, title, colour, match_accuracy(known, result), ratios.get(result.name)
                )
            )
    return tuple(found)


def name_devices(reports: Sequence[ProfileReport]) -> list[str]:
    """A name for the device of each report; devices with the same name are numbered."""
    names = [clean(report.device.name) or report.device.kind for report in reports]
    counts, seen = Counter(names), Counter[str]()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(f"{name} ({seen[name]})" if counts[name] > 1 else name)
    return unique


def make_slug(words: str) -> str:
    """Makes a part of a file name from `words` that every system accepts: at most 60 letters, digits, dots, dashes."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", words).strip("-.")[:60] or "result"
