"""Bundles for TensorRT: the graph, the script and, with TensorRT-RTX, an engine that was built without a GPU."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from safetensors.torch import save_file

from evm_deploy import Bundle, caches, pipeline
from evm_deploy.errors import MissingToolError, OptionError
from evm_deploy.exporters.export_options import ExportOptions
from evm_deploy.exporters.tensorrt import build, layers, libraries, precision
from evm_deploy.exporters.tensorrt.plugins.operators import mark_scans
from evm_deploy.models import EfficientVMamba


@pytest.fixture(scope="module")
def checkpoint(golden: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The golden weights of a variant as a file."""
    folder = tmp_path_factory.mktemp("weights")

    def save(name: str) -> Path:
        save_file(golden.state_dict(name), folder / f"{name}.safetensors")
        return folder / f"{name}.safetensors"

    return save


@pytest.fixture(scope="module")
def small(two_stages: Callable[..., EfficientVMamba], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a network of two scans and little else."""
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_file(two_stages(blocks=("evss", "evss")).state_dict(), path)
    return path


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(caches.VARIABLE, str(tmp_path / "cache"))


def options(**changes: Any) -> ExportOptions:
    return ExportOptions(**{"target": "tensorrt", "image_size": (64, 64), "compute_capabilities": ("8.6",), **changes})


@pytest.mark.parametrize("kind", [pytest.param("fp32", marks=pytest.mark.slow), "fp16"])
def test_a_bundle_with_an_engine(small: Path, tmp_path: Path, kind: str) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    said: list[str] = []
    out = tmp_path / "out"
    result = pipeline.export(small, out, options(precision=kind), progress=said.append)
    bundle = result.bundle
    facts: Any = bundle.manifest.build
    engine = "engines/tensorrt_rtx_sm86.engine"
    assert {"model.onnx", "build_engine.sh", engine, "engines/build.log"} <= bundle.manifest.files.keys()
    assert facts["engine"]["file"] == engine
    assert facts["engine"]["library"] == f"tensorrt_rtx {trt.__version__}"
    assert facts["engine"]["inspected_by"] == build.REPORT
    assert facts["scans"] == 2
    assert facts["trtexec"].startswith("trtexec --onnx=model.onnx --saveEngine=model.engine --stronglyTyped --noTF32")
    assert json.loads((out / "manifest.json").read_text())["build"] == json.loads(json.dumps(facts))
    assert "LayerType: " in (out / "engines/build.log").read_text()
    report = result.report
    assert report is not None
    assert report.passed
    assert "was not run" in report.notes[-1]
    assert sum("building the engine" in line for line in said) == 1


def test_without_a_library_there_is_a_bundle_for_the_device(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for row in libraries.LIBRARIES:
        monkeypatch.setitem(sys.modules, row.module, None)
    with pytest.raises(MissingToolError, match=r"an engine needs TensorRT.*pip install"):
        pipeline.export(small, tmp_path / "asked", options())
    result = pipeline.export(small, tmp_path / "out", options(compute_capabilities=()))
    facts: Any = result.bundle.manifest.build
    assert facts["engine"] is None
    assert "tensorrt_rtx is not installed" in facts["not_built"]
    assert (tmp_path / "out/build_engine.sh").stat().st_mode & 0o111
    assert not (tmp_path / "out/engines").exists()
    assert result.report is not None
    assert "no engine is in the bundle" in result.report.notes[-1]


def test_a_typo_in_the_capability_leaves_nothing(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    start = time.monotonic()
    with pytest.raises(OptionError, match=r"'8\.9\.1'.*did you mean 8\.9\?"):
        pipeline.export(checkpoint("micro"), tmp_path / "out", options(compute_capabilities=("8.9.1",)))
    assert time.monotonic() - start < 5  # before anything is traced
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fp32", "fp16"])
def test_the_whole_of_t_parses_in_the_precision_asked_for(exported: Callable[..., Bundle], kind: str) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    proto = onnx.load(exported("tiny", precision=kind, image_size=(224, 224)).model_path)
    scans = mark_scans(proto)
    _, network = build.parse_graph(trt, build.make_logger(trt), proto.SerializeToString())
    found = layers.read_network(network)
    precision.check_network(found, kind, scans=4, where="the network")
    assert scans == 4
    assert sum(layer.kind == "CONVOLUTION" for layer in found) >= 40


@pytest.mark.slow
def test_an_open_batch_builds(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    asked = options(dynamic_batch=True, bake_preprocessing=True, verify=False)
    facts: Any = pipeline.export(checkpoint("micro"), tmp_path / "out", asked).bundle.manifest.build
    assert facts["shapes"] == {"min": [1, 64, 64, 3], "opt": [4, 64, 64, 3], "max": [16, 64, 64, 3]}
    assert "--maxShapes=image:16x64x64x3" in (tmp_path / "out/build_engine.sh").read_text()
    assert facts["engine"]["layers"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vim_tiny", "vmamba_v2_tiny_s1l8", "vmamba_v0_tiny"])
def test_other_families_build(checkpoint: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    pytest.importorskip("tensorrt_rtx")
    start = time.process_time()  # of all threads: neighbours do not count
    asked = options(precision="fp16", image_size=(224, 224), verify=False)
    facts: Any = pipeline.export(checkpoint(name), tmp_path / "out", asked).bundle.manifest.build
    assert facts["engine"]["layers"]
    assert time.process_time() - start < 300


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fp32", "fp16"])
@pytest.mark.parametrize("name", ["tiny", "small", "base"])
def test_every_variant_builds_for_all_gpus(
    checkpoint: Callable[[str], Path], tmp_path: Path, name: str, kind: str
) -> None:
    pytest.importorskip("tensorrt_rtx")
    start = time.monotonic()
    asked = options(precision=kind, image_size=(224, 224), compute_capabilities=(), verify=False)
    facts: Any = pipeline.export(checkpoint(name), tmp_path / "out", asked).bundle.manifest.build
    assert len(facts["engine"]["compute_capabilities"]) >= 5
    assert time.monotonic() - start < 300
