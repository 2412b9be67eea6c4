"""What earlier versions wrote still opens, answers as it did then, and goes on through every later command."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

import evm_deploy
from evm_deploy import Bundle, folders, reporting
from evm_deploy.benchmarking import benchmark_folder
from evm_deploy.calib.quantize_options import QuantizeOptions
from evm_deploy.inspection import inspect
from evm_deploy.packaging import index, verify
from evm_deploy.packaging.package_options import PackageOptions
from evm_deploy.tolerances import PREDICTED_SHARE

ARCHIVES = sorted(Path(__file__).parent.glob("*.zip"))
IMAGE = Path("images", "red", "0.png")


@pytest.fixture(scope="module", params=ARCHIVES, ids=lambda path: path.stem)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a version wrote, unpacked."""
    folder = tmp_path_factory.mktemp(request.param.stem)
    with zipfile.ZipFile(request.param) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def bundles(written: Path) -> list[Path]:
    return sorted(path.parent for path in written.glob("*/manifest.json"))


def test_a_version_wrote_something() -> None:
    assert [path.stem for path in ARCHIVES][:1] == ["0.1.0"]


def test_bundles_open(bundles: list[Path]) -> None:
    targets = {Bundle.open(path).manifest.target for path in bundles}
    assert targets == {"onnx", "coreml", "tensorrt"}
    for path in bundles:
        opened = Bundle.open(path)
        assert opened.labels() == ("red", "green", "blue")
        assert all(np.isfinite(output).all() for output in opened.sample().outputs)
        assert inspect(path).facts["target"] == opened.manifest.target


def test_bundles_answer_as_they_did(written: Path) -> None:
    recorded = json.loads((written / "predictions.json").read_text())
    assert len(recorded) >= 8
    for name, expected in recorded.items():
        (found,) = evm_deploy.predict(written / name, [written / IMAGE])
        assert dict(found.top) == pytest.approx(expected, abs=PREDICTED_SHARE), name


def test_bundles_meet_their_golden_pairs(bundles: list[Path], written: Path) -> None:
    for path in bundles:
        assert evm_deploy.verify(path).passed, path.name
    assert evm_deploy.verify(written / "onnx_fp32", checkpoint=written / "checkpoint.safetensors").passed


def test_packages_are_whole(written: Path) -> None:
    indexes = {path.stem: index.Index.from_json(path.read_bytes()) for path in (written / "packages").glob("*.json")}
    assert indexes.keys() == {"android", "ios", "jetson", "linux", "web"}
    assert all(found.platform == name and found.models for name, found in indexes.items())
    archives = list((written / "packages").glob("*.zip"))
    assert len(archives) == 2
    for path in archives:
        with verify.open_package(path) as (found, models):
            assert found.files == len(indexes[path.stem].files)
            assert all(model.bundle.sample().outputs for model in models)


def test_reports_are_rendered(written: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    (read,) = evm_deploy.report([written / "profile"], evaluation=written / "evaluation", html=page)
    assert {result.bundle for result in read.results} == {"onnx_fp32", "onnx_int8"}
    assert "onnx_int8" in page.read_text()
    assert "top1" in page.read_text().lower() or "top-1" in page.read_text().lower()
    assert reporting.read([written / "profile" / "profile.json"])[0].results


def test_a_benchmark_can_be_replaced(written: Path) -> None:
    folders.check_free(written / "benchmark", benchmark_folder.KIND, overwrite=True)


def test_bundles_go_on(written: Path, tmp_path: Path) -> None:
    """The calibration cache is used, or left with a word; what is made of the bundles is whole."""
    said: list[str] = []
    options = QuantizeOptions(cache=written / "calibration")
    source, out = written / "onnx_fp32", tmp_path / "int8"
    made = evm_deploy.quantize(source, str(written / "images"), out, options, progress=said.append)
    assert made.report is not None
    assert made.report.passed
    assert any("continuing" in line or "starting anew" in line for line in said)
    package = evm_deploy.package([source, out], tmp_path / "linux", PackageOptions("linux"))
    assert package.index.models.keys() == {"onnx_fp32", "int8"}
