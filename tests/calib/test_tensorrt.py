"""INT8 for TensorRT: the quantised graph, and an engine in which its products are on integers."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from safetensors.torch import save_file

import evm_deploy
from evm_deploy import ExportOptions, caches, export
from evm_deploy.bundle import Bundle
from evm_deploy.calib import tensorrt
from evm_deploy.calib.quantize_options import QuantizeOptions
from evm_deploy.data.samples import read_samples
from evm_deploy.exporters.tensorrt import libraries
from evm_deploy.exporters.tensorrt.export import EngineOptions


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(caches.VARIABLE, str(tmp_path / "cache"))


@pytest.fixture
def bundle(golden: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """A float bundle without an engine: as if it were exported where no library is."""
    save_file(golden.state_dict("micro"), tmp_path / "micro.safetensors")
    with monkeypatch.context() as patched:
        patched.setattr(libraries, "find_library", lambda: libraries.LibrarySearch(None, ("not here",)))
        options = ExportOptions("tensorrt", image_size=(32, 32), verify=False)
        return export(tmp_path / "micro.safetensors", tmp_path / "float", options).bundle


def built(bundle: Bundle, **engine: Any) -> Bundle:
    """The bundle, saying that an engine is in it."""
    facts = (bundle.manifest.build or {}) | engine
    return dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, build=facts))


def test_the_engine_has_the_products_on_int8(bundle: Bundle, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    images = [np.random.default_rng(i).integers(0, 256, (40, 40, 3), np.uint8) for i in range(2)]
    samples = read_samples(images, bundle.manifest.preprocessing)
    (tmp_path / "out").mkdir()
    path = tmp_path / "out" / "model.onnx"
    for_one = built(bundle, engine={"compute_capabilities": ["8.6"]})
    facts = tensorrt.quantize(for_one, samples, QuantizeOptions(equalise=False), path, lambda stage: None)

    nodes = onnx.load(path).graph.node
    conversions = [node for node in nodes if node.op_type == "QuantizeLinear"]
    assert 0 < len(conversions) <= facts["integer_products"] < len(nodes)
    assert sum(node.op_type == "EfficientScan2D" for node in nodes) == facts["scans"] == 2
    layers = facts["engine"]["layers"]
    assert sum(count for kind, count in layers.items() if kind.startswith("correlation int8->")) == 17
    assert not any(kind.startswith("correlation float") for kind in layers)
    assert facts["engine"]["compute_capabilities"] == ["8.6"]
    assert (path.parent / facts["engine"]["file"]).stat().st_size > 0
    assert "--stronglyTyped" in facts["trtexec"]  # with it, conversions in the graph are all that INT8 takes
    assert "--int8" not in facts["trtexec"]
    assert facts["calibration"]["layers"]


def test_the_float_graph_runs_without_a_gpu(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The golden pair and the verification are of the graph where the engine cannot be run."""
    monkeypatch.setattr(libraries, "has_gpu", lambda: False)
    monkeypatch.setattr(libraries, "find_library", lambda: libraries.LibrarySearch(None, ("not here",)))
    images = [np.random.default_rng(i).integers(0, 256, (40, 40, 3), np.uint8) for i in range(2)]
    result = evm_deploy.quantize(bundle.path, images, tmp_path / "int8", QuantizeOptions(equalise=False))
    assert result.report
    assert result.report.passed


def test_an_engine_is_built_as_the_float_bundle_has_one(make_bundle: Callable[..., Bundle], tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", target="tensorrt")
    assert tensorrt.read_engine_options(bundle) == EngineOptions("int8")
    engine = {"compute_capabilities": ["8.6", "8.9"]}
    assert tensorrt.read_engine_options(built(bundle, engine=engine)) == EngineOptions("int8", ("8.6", "8.9"))
    assert tensorrt.read_engine_options(built(bundle, engine=engine, plugin=True)) == EngineOptions(
        "int8", ("8.6", "8.9"), True
    )
    for odd in ("all", 3, None, [["8.6"]]):  # a manifest may say anything
        assert tensorrt.read_engine_options(built(bundle, engine=odd, plugin="yes")) == EngineOptions("int8")
