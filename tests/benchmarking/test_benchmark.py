"""The benchmark of all targets: every form is a row, whatever became of it, and one failure costs only itself."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from evm_deploy import pipeline, reporting
from evm_deploy.benchmarking import benchmark, benchmark_folder, benchmark_report, variants
from evm_deploy.benchmarking.benchmark_options import BenchmarkOptions
from evm_deploy.bundle import Bundle
from evm_deploy.errors import CheckFailed, CheckpointError, InputError, MissingToolError, OptionError, OutputError
from evm_deploy.exporters.export_options import ExportOptions
from evm_deploy.models import EfficientVMamba
from evm_deploy.profiling.devices import local
from evm_deploy.profiling.profile_options import ProfileOptions
from evm_deploy.profiling.report import Conditions, DeviceFacts, Method, ProfileReport, Result
from evm_deploy.reporting.accuracy import Accuracy, AccuracyShare
from evm_deploy.reporting.quantities import format_number
from evm_deploy.runtimes import import_runtime
from evm_deploy.targets import TARGETS

Say = Callable[[str], None]
DIGITS = Path(__file__).parents[2] / "examples/digits"


def silent(words: str) -> None:
    """Nobody listens."""


@pytest.fixture
def checkpoint(tmp_path: Path, micro: Callable[..., EfficientVMamba]) -> Path:
    path = tmp_path / "micro.pth"
    torch.save(micro().state_dict(), path)
    return path


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Nothing is timed; the names of the bundles that would have been."""
    names: list[str] = []

    def measure(address: str, bundles: Sequence[Path], options: ProfileOptions, say: Say) -> ProfileReport:
        names.extend(path.name for path in bundles)
        rows = [
            Result(
                path.name,
                path.name,
                "onnxruntime",
                None,
                "onnx",
                path.name.rpartition("-")[2],
                "0" * 64,
                10,
                samples_ms=(2.0, 3.0),
            )
            for path in bundles
        ]
        pytorch = Result(
            "PyTorch", "micro.pth", "PyTorch", None, "pytorch", "fp32", "0" * 64, 99, samples_ms=(5.0, 5.0)
        )
        rows += [pytorch] if options.checkpoint is not None else []
        return ProfileReport(
            DeviceFacts("local", "here"), Conditions(), Method(2, None, 1, True), tuple(rows), "now", "0.1.0"
        )

    monkeypatch.setattr(local, "measure", measure)
    return names


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, make_bundle: Callable[..., Bundle]) -> dict[str, Exception]:
    """Bundles come without a network. What is put into the mapping under a form's name is raised instead."""
    failures: dict[str, Exception] = {}

    def make(out: Path, target: str, precision: str) -> Any:
        if error := failures.get(f"{target}-{precision}"):
            raise error
        parity = {"rows": [{"relative": 0.25}, {"relative": None}, {"relative": 0.5}]}
        return SimpleNamespace(bundle=make_bundle(out, target=target, precision=precision, parity=parity))

    def export(checkpoint: Path, out: Path, options: ExportOptions, progress: Say) -> Any:
        progress("exporting")
        return make(out, options.target, options.precision)

    def quantize(bundle: Path, data: str, out: Path, options: Any, progress: Say) -> Any:
        return make(out, out.name.partition("-")[0], "int8")

    monkeypatch.setattr(pipeline, "export", export)
    monkeypatch.setattr(pipeline, "quantize", quantize)
    for target in TARGETS:
        monkeypatch.setattr(import_runtime(target), "find_obstacle_to_run", lambda: None)
    monkeypatch.setattr(benchmark, "_evaluate_bundles", lambda *arguments: ((), []))
    return failures


@pytest.fixture
def images(tmp_path: Path) -> Path:
    from PIL import Image

    folder = tmp_path / "images"
    folder.mkdir()
    Image.new("RGB", (32, 32)).save(folder / "one.png")
    return folder


def rows_of(report: benchmark_report.BenchmarkReport) -> dict[str, benchmark_report.BenchmarkRow]:
    return {f"{row.format}-{row.precision}": row for row in report.rows}


@pytest.mark.usefixtures("made", "measured")
def test_every_form_is_a_row(checkpoint: Path, images: Path) -> None:
    rows = rows_of(benchmark.benchmark(checkpoint, BenchmarkOptions(data=images), progress=silent))
    assert list(rows) == [
        "pytorch-fp32",
        *(f"{t}-{p}" for t, row in TARGETS.items() for p in (*row.precisions, *["int8"] * bool(row.quantizer))),
    ]
    assert {rows[name].status for name in rows if name.startswith(("onnx", "pytorch"))} == {"ok"}
    summary = rows["onnx-fp16"].p50
    assert summary is not None
    assert (summary.value, rows["onnx-fp16"].parity, rows["onnx-fp16"].size_bytes) == (2.5, 0.5, 10)
    assert rows["coreml-fp32"].status == benchmark_report.VERIFIED
    assert rows["coreml-fp32"].reason == "Core ML runs on macOS"
    assert rows["coreml-fp32"].p50 is None
    assert rows["coreml-fp32"].size_bytes == len(b"model")
    assert rows["coreml-int8"].status == benchmark_report.NOT_HERE


@pytest.mark.usefixtures("made", "measured")
def test_images_that_int8_was_calibrated_on_are_no_fair_test(
    checkpoint: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = (Accuracy("onnx-int8", "onnxruntime", "int8", AccuracyShare(0.9, 0.8, 1.0)),)
    monkeypatch.setattr(benchmark, "_evaluate_bundles", lambda *arguments: (known, []))
    said = benchmark.benchmark(checkpoint, BenchmarkOptions(data=images), progress=silent).notes
    assert any("calibrated on images of the data" in note for note in said)
    fair = BenchmarkOptions(data=images, calibration=images)
    assert not any("calibrated on" in note for note in benchmark.benchmark(checkpoint, fair, progress=silent).notes)


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (CheckFailed("it does not agree.", "look."), "failed", "it does not agree"),
        (MissingToolError("a tool is missing.", "install it."), "not here", "a tool is missing"),
        (RuntimeError("inside a converter\nmore"), "failed", "RuntimeError: inside a converter"),
    ],
)
def test_one_failure_costs_only_itself(
    checkpoint: Path,
    images: Path,
    made: dict[str, Exception],
    measured: list[str],
    error: Exception,
    status: str,
    reason: str,
) -> None:
    made["onnx-fp16"] = error
    report = benchmark.benchmark(checkpoint, BenchmarkOptions(data=images, targets=("onnx",)), progress=silent)
    row = rows_of(report)["onnx-fp16"]
    assert (row.status, row.reason) == (status, reason)
    assert measured == ["onnx-fp32", "onnx-int8"]
    assert report.failures == ((f"onnx fp16: {reason}",) if status == "failed" else ())
    assert f"onnx fp16: {status}: {reason}" in benchmark_report.describe_figures(report)


def test_int8_needs_the_float_bundle(
    checkpoint: Path, images: Path, made: dict[str, Exception], measured: list[str]
) -> None:
    made["onnx-fp32"] = CheckFailed("it does not agree.", "look.")
    rows = rows_of(benchmark.benchmark(checkpoint, BenchmarkOptions(data=images, targets=("onnx",)), progress=silent))
    assert rows["onnx-int8"].status == "failed"
    assert "fp32" in str(rows["onnx-int8"].reason)
    assert measured == ["onnx-fp16"]


@pytest.mark.usefixtures("made")
def test_int8_needs_images(checkpoint: Path, measured: list[str]) -> None:
    rows = rows_of(benchmark.benchmark(checkpoint, BenchmarkOptions(targets=("onnx",)), progress=silent))
    assert (rows["onnx-int8"].status, rows["onnx-int8"].reason) == ("not here", variants.NO_DATA)
    assert measured == ["onnx-fp32", "onnx-fp16"]


@pytest.mark.usefixtures("made", "measured")
def test_nothing_can_be_timed(checkpoint: Path) -> None:
    report = benchmark.benchmark(checkpoint, BenchmarkOptions(targets=("coreml",)), progress=silent)
    assert report.profile is None
    assert benchmark_report.tabulate_rows(report)[1]
    assert all(
        ": verified, not timed here: " in line or ": not here: " in line
        for line in benchmark_report.describe_figures(report)
    )


def test_a_result_that_could_not_be_measured_has_failed(
    checkpoint: Path, made: dict[str, Exception], measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = local.measure

    def measure(*arguments: Any) -> ProfileReport:
        report = whole(*arguments)
        broken = dataclasses.replace(report.results[1], samples_ms=(), error="its golden pair differs")
        return dataclasses.replace(report, results=(report.results[0], broken))

    monkeypatch.setattr(local, "measure", measure)
    report = benchmark.benchmark(checkpoint, BenchmarkOptions(targets=("onnx",)), progress=silent)
    assert report.failures == ("onnx fp16: its golden pair differs",)


@pytest.mark.usefixtures("made", "measured")
def test_the_table(checkpoint: Path, images: Path) -> None:
    report = benchmark.benchmark(checkpoint, BenchmarkOptions(data=images, targets=("onnx",)), progress=silent)
    heads, rows = benchmark_report.tabulate_rows(report)
    assert "top-1 %" not in heads
    assert rows[1][:5] == ["onnx", "fp32", "onnxruntime", "ok", format_number(1e-5)]
    top1 = dataclasses.replace(report.rows[1], top1=AccuracyShare(0.5, 0.4, 0.6))
    heads, rows = benchmark_report.tabulate_rows(dataclasses.replace(report, rows=(top1, *report.rows)))
    assert [row[heads.index("top-1 %")] for row in rows][:2] == ["50.00 [40.0, 60.0]", None]
    assert all(len(row) == len(heads) for row in rows)
    assert not any("calibrated on images of the data" in note for note in report.notes)  # there is no top-1
    assert json.loads(report.to_json())["checkpoint"] == "micro.pth"


@pytest.mark.usefixtures("made", "measured")
def test_the_folder(checkpoint: Path, images: Path, tmp_path: Path) -> None:
    out, page = tmp_path / "out", tmp_path / "page.html"
    options = BenchmarkOptions(targets=("onnx", "coreml"), out=out, html=page)
    benchmark.benchmark(checkpoint, options, progress=silent)
    assert sorted(path.name for path in (out / "bundles").iterdir()) == [
        "coreml-fp16",
        "coreml-fp32",
        "onnx-fp16",
        "onnx-fp32",
    ]
    assert Bundle.open(out / "bundles/onnx-fp16")
    (profile,) = reporting.read([out])
    assert [result.name for result in profile.results] == ["onnx-fp32", "onnx-fp16", "PyTorch"]
    assert "Core ML runs on macOS" in page.read_text()
    assert str(tmp_path) not in (out / "benchmark.json").read_text()
    with pytest.raises(OutputError, match="exists"):
        benchmark.benchmark(checkpoint, options, progress=silent)
    with pytest.raises(OutputError, match="exists"):
        benchmark.benchmark(checkpoint, dataclasses.replace(options, out=None), progress=silent)
    benchmark.benchmark(checkpoint, dataclasses.replace(options, overwrite=True), progress=silent)
    (out / "bundles/mine").mkdir()
    (out / "bundles/mine/notes").write_text("mine")
    with pytest.raises(OutputError, match="is not replaced"):
        benchmark_folder.check_free(out, overwrite=True)


@pytest.mark.usefixtures("made")
def test_interrupted_it_leaves_nothing(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: Any) -> ProfileReport:
        raise KeyboardInterrupt

    monkeypatch.setattr(local, "measure", interrupt)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        benchmark.benchmark(checkpoint, BenchmarkOptions(out=tmp_path / "a/b", targets=("onnx",)), progress=silent)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.usefixtures("made", "measured")
def test_what_is_wrong_is_found_before_anything_is_exported(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(benchmark, "_try_variants", never)
    with pytest.raises(CheckpointError):
        benchmark.benchmark(tmp_path / "none.pth", BenchmarkOptions(), progress=silent)
    with pytest.raises(InputError):
        benchmark.benchmark(checkpoint, BenchmarkOptions(data=tmp_path / "none"), progress=silent)


@pytest.mark.parametrize(
    "changes",
    [
        {"targets": ("onx",)},
        {"samples": 0},
        {"count": 0},
        {"calibration": "a"},
        {"iterations": 1},
        {"image_size": (1, 1)},
    ],
)
def test_options_that_cannot_be(changes: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        BenchmarkOptions(**changes)


def test_the_forms() -> None:
    assert [one.name for one in variants.list_variants(("onnx",))] == ["onnx-fp32", "onnx-fp16", "onnx-int8"]
    assert {one.target for one in variants.list_variants(())} == set(TARGETS)


@pytest.mark.slow
def test_digits_in_every_form_of_onnx(tmp_path: Path) -> None:
    """A real run: exported, quantised, evaluated and timed."""
    options = BenchmarkOptions(
        targets=("onnx",),
        image_size=(64, 64),
        labels=DIGITS / "labels.txt",
        data=DIGITS / "images",
        iterations=5,
        threads=1,
    )
    report = benchmark.benchmark(DIGITS / "digits.safetensors", options, progress=silent)
    rows = [row for row in report.rows if row.format == "onnx"]
    assert [row.status for row in rows] == ["ok"] * 3
    assert all(row.p50 and row.load_ms and row.memory_bytes and row.parity is not None for row in rows)
    assert rows[0].size_bytes
    assert rows[2].size_bytes
    assert rows[2].size_bytes < rows[0].size_bytes / 2


def test_a_table_of_millions_of_objects_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "benchmark.json").write_bytes(b'{"x":[' + b"{}," * 400_000 + b"{}]}")
    with pytest.raises(InputError, match="objects and lists"):
        benchmark_folder.KIND.files(tmp_path)
