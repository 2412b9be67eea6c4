"""Plots a search: the accuracy that each mix loses against its latency, and the mixes that no other one beats."""

from collections.abc import Sequence
from pathlib import Path

from evm_deploy.calib.onnx.search import Mix, Search
from evm_deploy.calib.plots import FIGURES, save_figure
from evm_deploy.optional import import_library

FLOAT = Mix((), 0.0, 0.0, 1.0)


def find_front(mixes: Sequence[Mix]) -> list[Mix]:
    """The mixes for which no other mix is both faster and loses less, fastest first."""
    found: list[Mix] = []
    for mix in sorted(mixes, key=lambda mix: (mix.ratio, mix.drop)):
        if not found or mix.drop < found[-1].drop:
            found.append(mix)
    return found


def plot_search(search: Search, folder: Path) -> Path:
    """Writes `search.png` into `folder`. Raises MissingToolError (matplotlib), OutputError."""
    figure = import_library(FIGURES).Figure(figsize=(9, 5), layout="constrained")
    axes = figure.add_subplot()
    for mixes, color, label in (
        (search.alone, "tab:gray", "one part alone"),
        (search.mixes, "tab:blue", "several parts"),
        ((FLOAT,), "black", "float"),
        ((search.best,), "tab:green", "taken"),
    ):
        axes.scatter([mix.ratio for mix in mixes], [mix.drop for mix in mixes], s=24, color=color, label=label)
    line = find_front((*search.alone, *search.mixes, FLOAT))
    axes.step([mix.ratio for mix in line], [mix.drop for mix in line], where="post", linewidth=0.8, color="tab:blue")
    axes.axhline(search.max_drop, color="tab:red", linewidth=0.8, linestyle="dashed", label="most that may be lost")
    for mix in search.alone:
        axes.annotate(mix.parts[0], (mix.ratio, mix.drop), fontsize=5, parse_math=False)
    axes.set_xlabel("latency, of the float model's")
    axes.set_ylabel("points lost")
    axes.set_title(f"{search.images} images")
    axes.legend(fontsize=7)
    path = folder / "search.png"
    save_figure(figure, path)
    return path
