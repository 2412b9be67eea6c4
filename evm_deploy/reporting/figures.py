"""The charts as PNG files, for slides and issues: drawn by matplotlib, without a window."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evm_deploy.calib.plots import FIGURES, save
from evm_deploy.optional import library
from evm_deploy.profiling import flame
from evm_deploy.profiling.kinds import KINDS
from evm_deploy.profiling.report import Operators, ProfileReport
from evm_deploy.reporting.accuracy import Accuracy
from evm_deploy.reporting.charts.accuracy import front, known
from evm_deploy.reporting.charts.kinds import REST, by_kind, kind_of
from evm_deploy.reporting.charts.roofline import points
from evm_deploy.reporting.entries import Entry, entries
from evm_deploy.reporting.quantities import number
from evm_deploy.reporting.scales import WIDE
from evm_deploy.reporting.svg import short

SERIES = ("#0072b2", "#d55e00", "#00855f", "#b8508c", "#8f6a00", "#2f8fc4", "#6b4fa0", "#66707a")
REST_COLOUR = "#d9dee4"
LABEL = 300.0  # units of `svg.short` for the words beside a bar


def write(folder: Path, reports: Sequence[ProfileReport], accuracies: Sequence[Accuracy] = ()) -> list[Path]:
    """Writes the pictures for which something was measured into `folder`, which exists, and returns their paths.

    Raises MissingToolError (matplotlib), InputError: no report, OutputError.
    """
    found = entries(reports, accuracies)
    pictures = {name: draw(found) for name, draw in PICTURES.items()}
    for index, entry in enumerate(found, 1):
        if entry.result.operators:
            pictures[f"roofline-{index}"] = _roofline(entry.label, entry.result.operators)
    drawn = {folder / f"{name}.png": figure for name, figure in pictures.items() if figure is not None}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a name in letters that the font does not have
        for path, figure in drawn.items():
            save(figure, path)
    return list(drawn)


def _axes(width: float, height: float) -> tuple[Any, Any]:
    figure = library(FIGURES).Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _names(axes: Any, found: Sequence[Entry]) -> None:
    """The contenders below each other, the first on top."""
    axes.set_yticks(range(len(found)), [short(entry.label, LABEL) for entry in found], parse_math=False)
    axes.set_ylim(len(found) - 0.4, -0.6)


def _latency(found: Sequence[Entry]) -> Any:
    timed = [(entry, entry.result.summary) for entry in found if entry.measured]
    if not timed:
        return None
    figure, axes = _axes(9, 1.1 + 0.62 * len(timed))
    _names(axes, [entry for entry, _ in timed])
    medians = [summary.p50.value for _, summary in timed if summary]
    for row, (entry, summary) in enumerate(timed):
        if summary is not None:
            colour, middle = SERIES[int(entry.colour[1:])], summary.p50
            axes.plot([summary.min, summary.p99.value], [row, row], color=colour, linewidth=1)
            axes.plot([middle.low, middle.high], [row, row], color=colour, linewidth=6, alpha=0.5)
            axes.plot(middle.value, row, "o", color=colour)
            words = f"{number(middle.value)} ms, p99 {number(summary.p99.value)}"
            axes.annotate(words, (middle.value, row), (0, 9), textcoords="offset points", fontsize=8, ha="center")
    _wide(axes, medians)
    axes.margins(x=0.12)
    axes.set_xlabel("ms: median with its 95 % interval, the line from the least to p99")
    return figure


def _spread(found: Sequence[Entry]) -> Any:
    timed = [entry for entry in found if len(entry.result.samples_ms) > 1]
    if not timed:
        return None
    figure, axes = _axes(8, 4.5)
    for entry in timed:
        samples = np.sort(np.asarray(entry.result.samples_ms))
        median = float(np.median(samples))
        if median > 0:
            shares = np.arange(1, len(samples) + 1) / len(samples)
            kept = shares <= 0.99
            colour = SERIES[int(entry.colour[1:])]
            (line,) = axes.plot(samples[kept] / median, shares[kept], color=colour)
            line.set_label(short(entry.label, LABEL).lstrip("_"))
    axes.set_xlabel("time by the contender's median, up to p99")
    axes.set_ylabel("share of runs")
    _legend(axes)
    return figure


def _kinds(found: Sequence[Entry]) -> Any:
    timed = [(entry, one) for entry in found if (one := entry.result.operators) and sum(by_kind(one).values()) > 0]
    if not timed:
        return None
    figure, axes = _axes(9, 1.6 + 0.5 * len(timed))
    _names(axes, [entry for entry, _ in timed])
    times = [by_kind(one) for _, one in timed]
    left = [0.0] * len(times)
    for kind in (*KINDS, REST):
        shares = [100 * one.get(kind, 0.0) / sum(one.values()) for one in times]
        if any(shares):
            axes.barh(range(len(times)), shares, left=left, height=0.6, color=_colour(kind), label=kind)
            left = [begin + share for begin, share in zip(left, shares, strict=True)]
    axes.set_xlim(0, 100)
    axes.set_xlabel("per cent of a run")
    figure.legend(loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    return figure


def _accuracy(found: Sequence[Entry]) -> Any:
    both = known(found)
    if not both:
        return None
    figure, axes = _axes(7, 4.5)
    axes.plot([ms for _, ms, _ in front(both)], [100 * share.value for _, _, share in front(both)], "--", color="grey")
    for entry, ms, share in both:
        ends = [[100 * (share.value - share.low)], [100 * (share.high - share.value)]]
        colour = SERIES[int(entry.colour[1:])]
        drawn = axes.errorbar(ms, 100 * share.value, yerr=ends, fmt="o", color=colour)
        drawn.set_label(short(entry.label, LABEL).lstrip("_"))
    _wide(axes, [ms for _, ms, _ in both])
    axes.margins(x=0.25)
    axes.set_xlabel("median, ms")
    axes.set_ylabel("top-1 %")
    _legend(figure, loc="outside lower center", ncols=2)
    return figure


def _roofline(label: str, operators: Operators) -> Any:
    roof, found = operators.roofline, points(operators)
    if roof is None or not found:
        return None
    figure, axes = _axes(7, 5)
    corner = roof.gflops / roof.gbytes
    reach = [min(corner / 4, *(point.intensity for point in found)), max(corner * 8, *(p.intensity for p in found))]
    axes.plot([reach[0], corner, reach[1]], [roof.gbytes * reach[0], roof.gflops, roof.gflops], color="black")
    for kind in KINDS:
        mine = [point for point in found if kind_of(point.row) == kind]
        if mine:
            area = [400 * point.row.ms / found[0].row.ms + 6 for point in mine]
            x, y = [point.intensity for point in mine], [point.speed for point in mine]
            axes.scatter(x, y, area, color=_colour(kind), edgecolors="#59636e", linewidths=0.6, label=kind)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("operations a byte")
    axes.set_ylabel("1e9 operations a second")
    axes.set_title(short(label, 480), fontsize=10, parse_math=False)
    for handle in _legend(axes).legend_handles:
        handle.set_sizes([30])
    return figure


def _colour(kind: str) -> str:
    return flame.COLOURS[kind][0] if kind in flame.COLOURS else REST_COLOUR


def _wide(axes: Any, values: Sequence[float]) -> None:
    if min(values) > 0 and max(values) / min(values) > WIDE:
        axes.set_xscale("log")


def _legend(place: Any, **options: Any) -> Any:
    """Of axes or of a figure. Names are no formulas."""
    legend = place.legend(fontsize=8, frameon=False, **options)
    for words in legend.get_texts():
        words.set_parse_math(False)
    return legend


PICTURES: dict[str, Callable[[Sequence[Entry]], Any]] = {
    "latency": _latency,
    "steadiness": _spread,
    "operators": _kinds,
    "accuracy": _accuracy,
}
