"""This machine: what is measured in which way, what is refused, and that a bundle is as fast as its copy."""

import dataclasses
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import evm_deploy
from evm_deploy.bundle import Bundle
from evm_deploy.errors import BundleError, DeviceError, InputError, OptionError
from evm_deploy.exporters.export_options import ExportOptions
from evm_deploy.profiling import here
from evm_deploy.profiling.agent import request
from evm_deploy.profiling.agent.bundle_files import Unmeasurable, check_bundle
from evm_deploy.profiling.devices import local
from evm_deploy.profiling.devices.contenders import NOT_BUILT, list_contenders
from evm_deploy.profiling.profile_options import ProfileOptions
from evm_deploy.profiling.report import ProfileReport
from evm_deploy.profiling.summaries import add_summaries
from evm_deploy.runtimes.coreml import UNTIMED
from evm_deploy.scan import native

QUICK = ProfileOptions(iterations=12, warm_up=1, threads=1)
Make = Callable[..., Bundle]


def measured(*paths: Path, **options: Any) -> ProfileReport:
    return add_summaries(local.measure("", paths, dataclasses.replace(QUICK, **options), lambda stage: None))


@pytest.fixture(scope="module")
def micro_bundle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A bundle of a small network, and its checkpoint."""
    from evm_deploy.models import EfficientVMamba, ModelConfig

    folder = tmp_path_factory.mktemp("micro")
    torch.manual_seed(0)
    model = EfficientVMamba(ModelConfig((16, 32, 64, 128), (1, 1, 1, 1), num_classes=10))
    torch.save(model.state_dict(), folder / "micro.pth")
    evm_deploy.export(folder / "micro.pth", folder / "net", ExportOptions(image_size=(64, 64), verify=False))
    return folder / "net", folder / "micro.pth"


def test_a_bundle_against_its_copy(small_bundle: Make, tmp_path: Path) -> None:
    """Taking turns, opened anew in every round, after the golden pair; every figure is there."""
    one, two = (small_bundle(tmp_path / name).path for name in ("net", "copy"))
    report = measured(one, two, iterations=40)
    assert [result.name for result in report.results] == ["net", "copy"]
    assert report.method.interleaved
    assert report.method.rounds == 10
    (ratio,) = report.ratios
    assert (ratio.name, ratio.reference) == ("copy", "net")
    assert 0 < ratio.ratio.low <= ratio.ratio.value <= ratio.ratio.high
    for result in report.results:
        assert result.error is None
        assert result.golden
        assert result.golden.passed
        assert len(result.samples_ms) == 40
        assert min(result.load_ms or 0, result.first_ms or 0) > 0
        assert result.memory
        assert result.memory.peak_bytes > (result.memory.base_bytes or 0) > 1 << 20
    assert {"onnxruntime", "numpy", "python"} <= set(report.conditions.versions)
    assert ProfileReport.from_json(report.to_json().encode()) == report


def test_the_sessions_of_one_bundle_are_told_apart(small_bundle: Make, tmp_path: Path) -> None:
    path = small_bundle(tmp_path / "net").path
    assert [result.name for result in measured(path, path, iterations=4).results] == ["net", "net (2)"]


def test_seconds_instead_of_iterations(small_bundle: Make, tmp_path: Path) -> None:
    report = measured(small_bundle(tmp_path / "net").path, seconds=0.2)
    assert report.method.iterations is None
    (result,) = report.results
    assert len(result.samples_ms) > 100
    assert len(result.samples_ms) % (report.method.rounds or 0) == 0


def test_a_wrong_golden_pair_is_not_timed(small_bundle: Make, tmp_path: Path) -> None:
    good, bad = small_bundle(tmp_path / "good").path, small_bundle(tmp_path / "bad", golden=False).path
    report = measured(bad, good)
    assert report.results[0].error
    assert "golden pair is off by" in report.results[0].error
    assert report.results[0].samples_ms == ()
    assert len(report.results[1].samples_ms) == 12
    assert report.ratios == ()


def test_a_model_that_cannot_be_loaded(make_bundle: Make, small_bundle: Make, tmp_path: Path) -> None:
    report = measured(make_bundle(tmp_path / "bad").path, small_bundle(tmp_path / "good").path)
    assert "onnxruntime cannot load the model" in (report.results[0].error or "")
    assert report.results[1].samples_ms


def test_a_model_that_is_not_what_the_manifest_says(small_bundle: Make, tmp_path: Path, manifest: Any) -> None:
    inputs = (dataclasses.replace(manifest.inputs[0], name="picture"),)
    report = measured(small_bundle(tmp_path / "net", inputs=inputs).path)
    assert report.results[0].error == "the model is not what its manifest says"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine may run engines")
def test_an_engine_without_a_gpu(small_bundle: Make, tmp_path: Path) -> None:
    """It is said why, and its graph is measured where every way was asked for."""
    graph, *_, engine = measured(small_bundle(tmp_path / "net", target="tensorrt").path, every_way=True).results
    assert (graph.name, graph.runtime, graph.error) == ("net on onnxruntime", "onnxruntime", None)
    assert (engine.name, engine.runtime) == ("net on tensorrt", "tensorrt")
    assert engine.error == "an engine runs only on an NVIDIA GPU, and there is none here"


def test_core_ml_is_not_timed_by_its_evaluator(small_bundle: Make, tmp_path: Path, monkeypatch: Any) -> None:
    class Evaluator:
        name = "mil evaluator"
        untimed = UNTIMED

        @classmethod
        def open_bundle(cls, bundle: Bundle, *, library: bool) -> type["Evaluator"]:
            return cls

    monkeypatch.setattr("evm_deploy.runtimes.find_runtime", lambda bundle: Evaluator)
    path = small_bundle(tmp_path / "net").path
    row: Any = {"name": "net", "bundle": "net", "folder": path, "sha256": None, "runner": "bundle", "tolerance": 1}
    with pytest.raises(Unmeasurable, match="Core ML runs on macOS only"):
        here.HERE["bundle"].open(request.AgentContender(row), check_bundle(path, None), None)


@pytest.mark.slow
def test_every_way(micro_bundle: tuple[Path, Path]) -> None:
    """PyTorch is the reference; the operator library is as right as the portable form."""
    if not native.available():
        pytest.skip("the operator library is not built here")
    path, checkpoint = micro_bundle
    report = measured(path, every_way=True, checkpoint=checkpoint)
    names = ["PyTorch", "net on onnxruntime", "net on onnxruntime + evm_ops"]
    assert [result.name for result in report.results] == names
    assert [result.runtime for result in report.results] == ["PyTorch", "onnxruntime", "onnxruntime + evm_ops"]
    assert all(result.error is None for result in report.results)
    assert [(each.name, each.reference) for each in report.ratios] == [(name, "PyTorch") for name in names[1:]]
    assert (report.results[0].target, report.results[0].bundle) == ("pytorch", "micro.pth")
    assert report.results[0].size_bytes == checkpoint.stat().st_size
    assert "torch" in report.conditions.versions


def test_the_best_way_is_the_default(small_bundle: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = small_bundle(tmp_path / "net").path
    if native.available():
        (one,) = list_contenders([path], QUICK)
        assert (one.name, one.library, one.notes) == ("net", str(native.native_library()), ())
    (one,) = list_contenders([path], dataclasses.replace(QUICK, library=False))
    assert (one.name, one.library, one.notes) == ("net", None, ())
    monkeypatch.setattr(native, "available", lambda: False)
    (one,) = list_contenders([path], QUICK)
    assert (one.name, one.library, one.notes) == ("net", None, (NOT_BUILT,))


@pytest.mark.slow
def test_time_by_operator(micro_bundle: tuple[Path, Path]) -> None:
    path, _ = micro_bundle
    (result,) = measured(path, operators=True).results
    assert result.operators
    assert {"scan", "convolution"} <= {row.kind for row in result.operators.rows}


def test_a_checkpoint_that_no_bundle_was_made_from(small_bundle: Make, tmp_path: Path) -> None:
    path = small_bundle(tmp_path / "net").path
    (tmp_path / "other.pth").write_bytes(b"weights")
    with pytest.raises(InputError, match="none of the bundles was made from"):
        measured(path, checkpoint=tmp_path / "other.pth")
    with pytest.raises(InputError, match="is not a file"):
        measured(path, checkpoint=tmp_path / "none.pth")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"lan": True}, "--lan"),
        ({"app": Path("x.apk")}, "--app"),
        ({"affinity": (4095,)}, "core 4095"),
        pytest.param(
            {"threads": 1024},
            "1024 threads",
            marks=pytest.mark.skipif((os.cpu_count() or 1) >= 64, reason="there are cores for as many threads"),
        ),
        ({"provider": "cuda9"}, "no execution provider 'cuda9'"),
    ],
)
def test_what_this_machine_has_no_use_for(
    small_bundle: Make, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(OptionError, match=said):
        measured(small_bundle(tmp_path / "net").path, **options)


def test_what_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        measured(tmp_path)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not let a program choose its cores")
def test_the_cores_that_were_asked_for(small_bundle: Make, tmp_path: Path) -> None:
    core = max(os.sched_getaffinity(0))
    report = measured(small_bundle(tmp_path / "net").path, affinity=(core,), threads=0)
    assert report.conditions.affinity == (core,)
    assert (report.conditions.threads, report.device.cores) == (1, 1)


def test_a_program_that_fails_is_an_error_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="is not a request") as caught:
        local.run("evm_deploy.profiling.here", tmp_path / "none", tmp_path / "out", lambda stage: None)
    assert "Traceback" not in str(caught.value)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are looked for in /proc")
@pytest.mark.parametrize("when", ["checking net", "timing"])
def test_nothing_is_left_when_it_is_interrupted(
    small_bundle: Make, tmp_path: Path, monkeypatch: Any, when: str
) -> None:
    path, temporary = small_bundle(tmp_path / "net").path, tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("TMPDIR", str(temporary))

    def interrupt(stage: str) -> None:
        if stage != when:
            return
        deadline = time.monotonic() + 60
        while when != "timing" and not list(temporary.rglob("evm-agent-*")):  # while a process measures alone
            assert time.monotonic() < deadline
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        local.measure("", [path], dataclasses.replace(QUICK, seconds=60.0), interrupt)
    assert list(temporary.iterdir()) == []
    commands = [_bytes(item) for item in Path("/proc").glob("[0-9]*/cmdline")]
    assert not [command for command in commands if str(temporary).encode() in command]


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
