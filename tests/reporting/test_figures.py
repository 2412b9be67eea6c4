"""The PNG files: one for each thing that was measured, whatever the names are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evm_deploy.errors import MissingToolError, OutputError
from evm_deploy.profiling.report import ProfileReport
from evm_deploy.reporting import figures


def test_hostile_names_are_drawn(hostile: ProfileReport, tmp_path: Path) -> None:
    paths = figures.write_figures(tmp_path, [hostile])
    assert [path.name for path in paths] == ["latency.png", "steadiness.png", "operators.png", "roofline-1.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


@pytest.mark.parametrize("name", ["_hidden", r"$\frac{$", "漢字"])
def test_names_are_no_formulas(
    tmp_path: Path, name: str, make_profile: Callable[..., Any], make_result: Callable[..., Any]
) -> None:
    assert figures.write_figures(tmp_path, [make_profile(make_result(name, 1.0, accuracy=0.5))])


def test_nothing_to_draw(tmp_path: Path, make_profile: Callable[..., Any], make_result: Callable[..., Any]) -> None:
    assert figures.write_figures(tmp_path, [make_profile(make_result("a", 1.0, samples_ms=(), error="failed"))]) == []


def test_without_matplotlib(report: ProfileReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(MissingToolError, match="matplotlib"):
        figures.write_figures(tmp_path, [report])


def test_a_folder_that_is_a_file(report: ProfileReport, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        figures.write_figures(tmp_path / "file", [report])
