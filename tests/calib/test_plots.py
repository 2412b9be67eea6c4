"""Pictures are written for every tensor, and say so where they cannot be."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evm_deploy.calib import plots
from evm_deploy.calib.plots import plot_ranges
from evm_deploy.calib.ranges import Range, choose_range
from evm_deploy.calib.statistics import TensorStatistics
from evm_deploy.errors import MissingToolError, OutputError

Make = Callable[..., TensorStatistics]


def test_pages(statistics_of: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "ROWS", 1)
    found = {f"tensor ${i}_{'x' * 60}": statistics_of(np.random.default_rng(i).standard_normal(99)) for i in range(3)}
    found["zero"] = statistics_of([0.0])
    ranges = {name: choose_range(each, "mse", symmetric=False) for name, each in found.items()}
    pages = plot_ranges(found | {"without a range": statistics_of([1])}, ranges, tmp_path / "new", "mse")
    assert [page.name for page in pages] == ["ranges-1.png", "ranges-2.png"]
    with Image.open(pages[0]) as first, Image.open(pages[1]) as second:
        assert first.size == second.size
        assert np.array(first).std() > np.array(second).std()  # three tensors, and one that is zero


def test_what_is_cut_off_is_red(statistics_of: Make, tmp_path: Path) -> None:
    def red(chosen: Range) -> int:
        (page,) = plot_ranges({"x": statistics_of(np.linspace(-1, 1, 999))}, {"x": chosen}, tmp_path)
        with Image.open(page) as image:
            pixels = np.array(image.convert("RGB")).astype(int)
        return int(((pixels[..., 0] > 180) & (pixels[..., 2] < 90)).sum())

    assert red(Range(-1, 1)) == 0
    assert red(Range(-0.5, 0.5)) > 1000


def test_without_matplotlib(statistics_of: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingToolError, match="pip install matplotlib"):
        plot_ranges({"x": statistics_of([1])}, {"x": Range(0, 1)}, tmp_path)


def test_where_nothing_can_be_written(statistics_of: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        plot_ranges({"x": statistics_of([1])}, {"x": Range(0, 1)}, tmp_path / "file")
