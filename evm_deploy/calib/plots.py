"""Plots the histogram of each tensor with its chosen range, to find out where accuracy is lost."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from evm_deploy.calib.ranges import Range
from evm_deploy.calib.statistics import TensorStatistics
from evm_deploy.files import cannot_write
from evm_deploy.optional import import_library

BARS = 256
COLUMNS, ROWS = 3, 5  # of a page
NAME_LENGTH = 48
PLACE = "place for the plots"  # what the user has to choose anew
FIGURES = "matplotlib.figure"  # draws to files without a window


def plot_ranges(
    statistics: Mapping[str, TensorStatistics], ranges: Mapping[str, Range], folder: Path, method: str = ""
) -> list[Path]:
    """Writes `ranges-1.png` and so on into `folder`, 15 tensors each, and returns their paths.

    Counts are on a logarithmic scale; what lies outside the range is red. Only tensors with a range are drawn. Raises
    MissingToolError (matplotlib), OutputError.
    """
    names = [name for name in statistics if name in ranges]
    pages: list[Path] = []
    for start in range(0, len(names), COLUMNS * ROWS):
        shown = names[start : start + COLUMNS * ROWS]
        rows = -(-len(shown) // COLUMNS)
        figure = import_library(FIGURES).Figure(figsize=(5 * COLUMNS, 2.4 * rows))
        figure.subplots_adjust(0.03, 0.03, 0.99, 1 - 0.8 / (2.4 * rows), 0.12, 0.4)
        for index, name in enumerate(shown):
            _draw(figure.add_subplot(rows, COLUMNS, index + 1), name, statistics[name], ranges[name])
        figure.suptitle(" ".join(["histogram and range of each tensor:", method]).rstrip(": "))
        pages.append(folder / f"ranges-{len(pages) + 1}.png")
        save_figure(figure, pages[-1])
    return pages


def _draw(axes: Any, name: str, statistics: TensorStatistics, chosen: Range) -> None:
    edges, counts = statistics.histogram(BARS)
    inside = (edges[1:] > chosen.low) & (edges[:-1] < chosen.high)
    for mask, color in ((inside, "tab:blue"), (~inside, "tab:red")):
        axes.stairs(np.where(mask, counts, 0), edges, fill=True, color=color)
    for end in (chosen.low, chosen.high):
        axes.axvline(end, color="black", linewidth=0.8)
    axes.set_yscale("log")
    axes.minorticks_off()
    axes.set_ylim(0.5, max(2 * counts.max(), 1))
    axes.tick_params(labelsize=6)
    short = name if len(name) <= NAME_LENGTH else "…" + name[1 - NAME_LENGTH :]
    title = f"{short}\n{chosen.low:.3g} to {chosen.high:.3g} of {statistics.low:.3g} to {statistics.high:.3g}"
    axes.set_title(title, fontsize=7, parse_math=False)


def prepare_folder(folder: Path) -> None:
    """Makes the folder for the plots. Raises MissingToolError (matplotlib) or OutputError early, not after hours."""
    import_library(FIGURES)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(str(folder), error, PLACE) from error


def save_figure(figure: Any, path: Path) -> None:
    """Writes one picture. Raises OutputError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=100)
    except OSError as error:
        raise cannot_write(str(path), error, PLACE) from error
