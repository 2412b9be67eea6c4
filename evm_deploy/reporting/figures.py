"""The charts as PNG files, for slides and issues. matplotlib draws them without a window."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evm_deploy.calib.plots import FIGURES, save_figure
from evm_deploy.optional import import_library
from evm_deploy.profiling import flame
from evm_deploy.profiling.kinds import KINDS
from evm_deploy.profiling.report import Operators, ProfileReport
from evm_deploy.reporting.accuracy import Accuracy
from evm_deploy.reporting.charts.accuracy import find_front, find_points
from evm_deploy.reporting.charts.kinds import REST, find_kind, split_by_kind
from evm_deploy.reporting.charts.roofline import list_points
from evm_deploy.reporting.entries import ReportEntry, collect_entries
from evm_deploy.reporting.quantities import format_number
from evm_deploy.reporting.scales import WIDE
from evm_deploy.reporting.svg import shorten

SERIES = ("#0072b2", "#d55e00", "#00855f", "#b8508c", "#8f6a00", "#2f8fc4", "#6b4fa0", "#66707a")
REST_COLOUR = "#d9dee4"
LABEL = 300.0  # width of the words beside a bar, in the units of `svg.shorten`


def write_figures(folder: Path, reports: Sequence[ProfileReport], accuracies: Sequence[Accuracy] = ()) -> list[Path]:
    """Writes a picture of each thing that was measured into the existing `folder` and returns their paths.

    Raises MissingToolError (matplotlib), InputError: no report, OutputError.
    """
    found = collect_entries(reports, accuracies)
    pictures = {name: draw(found) for name, draw in PICTURES.items()}
    for index, entry in enumerate(found, 1):
        if entry.result.operators:
            pictures[f"roofline-{index}"] = _draw_roofline(entry.label, entry.result.operators)
    drawn = {folder / f"{name}.png": figure for name, figure in pictures.items() if figure is not None}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a name with letters that the font lacks
        for path, figure in drawn.items():
            save_figure(figure, path)
    return list(drawn)


def _make_axes(width: float, height: float) -> tuple[Any, Any]:
    figure = import_library(FIGURES).Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _label_rows(axes: Any, found: Sequence[ReportEntry]) -> None:
    """Labels the rows with the contenders, the first on top."""
    axes.set_yticks(range(len(found)), [shorten(entry.label, LABEL) for entry in found], parse_math=False)
    axes.set_ylim(len(found) - 0.4, -0.6)


def _draw_latency(found: Sequence[ReportEntry]) -> Any:
    timed = [(entry, entry.result.summary) for entry in found if entry.measured]
    if not timed:
        return None
    figure, axes = _make_axes(9, 1.1 + 0.62 * len(timed))
    _label_rows(axes, [entry for entry, _ in timed])
    medians = [summary.p50.value for _, summary in timed if summary]
    for row, (entry, summary) in enumerate(timed):
        if summary is not None:
            colour, middle = SERIES[int(entry.colour[1:])], summary.p50
            axes.plot([summary.min, summary.p99.value], [row, row], color=colour, linewidth=1)
            axes.plot([middle.low, middle.high], [row, row], color=colour, linewidth=6, alpha=0.5)
            axes.plot(middle.value, row, "o", color=colour)
            words = f"{format_number(middle.value)} ms, p99 {format_number(summary.p99.value)}"
            axes.annotate(words, (middle.value, row), (0, 9), textcoords="offset points", fontsize=8, ha="center")
    _choose_scale(axes, medians)
    axes.margins(x=0.12)
    axes.set_xlabel("ms: median with its 95 % interval; the line runs from the minimum to p99")
    return figure


def _draw_spread(found: Sequence[ReportEntry]) -> Any:
    timed = [entry for entry in found if len(entry.result.samples_ms) > 1]
    if not timed:
        return None
    figure, axes = _make_axes(8, 4.5)
    for entry in timed:
        samples = np.sort(np.asarray(entry.result.samples_ms))
        median = float(np.median(samples))
        if median > 0:
            shares = np.arange(1, len(samples) + 1) / len(samples)
            kept = shares <= 0.99
            colour = SERIES[int(entry.colour[1:])]
            (line,) = axes.plot(samples[kept] / median, shares[kept], color=colour)
            line.set_label(shorten(entry.label, LABEL).lstrip("_"))
    axes.set_xlabel("time divided by the contender's median, up to p99")
    axes.set_ylabel("share of runs")
    _add_legend(axes)
    return figure


def _draw_kinds(found: Sequence[ReportEntry]) -> Any:
    timed = [
        (entry, one) for entry in found if (one := entry.result.operators) and sum(split_by_kind(one).values()) > 0
    ]
    if not timed:
        return None
    figure, axes = _make_axes(9, 1.6 + 0.5 * len(timed))
    _label_rows(axes, [entry for entry, _ in timed])
    times = [split_by_kind(one) for _, one in timed]
    left = [0.0] * len(times)
    for kind in (*KINDS, REST):
        shares = [100 * one.get(kind, 0.0) / sum(one.values()) for one in times]
        if any(shares):
            axes.barh(range(len(times)), shares, left=left, height=0.6, color=_choose_colour(kind), label=kind)
            left = [begin + share for begin, share in zip(left, shares, strict=True)]
    axes.set_xlim(0, 100)
    axes.set_xlabel("per cent of a run")
    figure.legend(loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    return figure


def _draw_accuracy(found: Sequence[ReportEntry]) -> Any:
    both = find_points(found)
    if not both:
        return None
    figure, axes = _make_axes(7, 4.5)
    axes.plot(
        [ms for _, ms, _ in find_front(both)],
        [100 * share.value for _, _, share in find_front(both)],
        "--",
        color="grey",
    )
    for entry, ms, share in both:
        ends = [[100 * (share.value - share.low)], [100 * (share.high - share.value)]]
        colour = SERIES[int(entry.colour[1:])]
        drawn = axes.errorbar(ms, 100 * share.value, yerr=ends, fmt="o", color=colour)
        drawn.set_label(shorten(entry.label, LABEL).lstrip("_"))
    _choose_scale(axes, [ms for _, ms, _ in both])
    axes.margins(x=0.25)
    axes.set_xlabel("median, ms")
    axes.set_ylabel("top-1 %")
    _add_legend(figure, loc="outside lower center", ncols=2)
    return figure


def _draw_roofline(label: str, operators: Operators) -> Any:
    roof, found = operators.roofline, list_points(operators)
    if roof is None or not found:
        return None
    figure, axes = _make_axes(7, 5)
    corner = roof.gflops / roof.gbytes
    reach = [min(corner / 4, *(point.intensity for point in found)), max(corner * 8, *(p.intensity for p in found))]
    axes.plot([reach[0], corner, reach[1]], [roof.gbytes * reach[0], roof.gflops, roof.gflops], color="black")
    for kind in KINDS:
        mine = [point for point in found if find_kind(point.row) == kind]
        if mine:
            area = [400 * point.row.ms / found[0].row.ms + 6 for point in mine]
            x, y = [point.intensity for point in mine], [point.speed for point in mine]
            axes.scatter(x, y, area, color=_choose_colour(kind), edgecolors="#59636e", linewidths=0.6, label=kind)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("operations per byte")
    axes.set_ylabel("1e9 operations per second")
    axes.set_title(shorten(label, 480), fontsize=10, parse_math=False)
    for handle in _add_legend(axes).legend_handles:
        handle.set_sizes([30])
    return figure


def _choose_colour(kind: str) -> str:
    return flame.COLOURS[kind][0] if kind in flame.COLOURS else REST_COLOUR


def _choose_scale(axes: Any, values: Sequence[float]) -> None:
    if min(values) > 0 and max(values) / min(values) > WIDE:
        axes.set_xscale("log")


def _add_legend(place: Any, **options: Any) -> Any:
    """Adds a legend to axes or a figure. `$` in a name does not start a formula."""
    legend = place.legend(fontsize=8, frameon=False, **options)
    for words in legend.get_texts():
        words.set_parse_math(False)
    return legend


PICTURES: dict[str, Callable[[Sequence[ReportEntry]], Any]] = {
    "latency": _draw_latency,
    "steadiness": _draw_spread,
    "operators": _draw_kinds,
    "accuracy": _draw_accuracy,
}
