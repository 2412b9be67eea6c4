"""The runtime without a GPU, which says what it could not do, and with a stand-in for an engine."""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from evm_deploy.bundle import Bundle
from evm_deploy.errors import BundleError, MissingToolError
from evm_deploy.exporters.tensorrt import libraries
from evm_deploy.runtimes import tensorrt as runtime

BUILT: dict[str, Any] = {
    "plugin": False,
    "scans": 0,
    "engine": {
        "file": "engines/tensorrt_rtx_sm86.engine",
        "library": "tensorrt_rtx 1.7",
        "compute_capabilities": ["8.6"],
        "inspected_by": "builder's report of the engine",
    },
}


@pytest.fixture
def bundle(make_bundle: Callable[..., Bundle], tmp_path: Path) -> Bundle:
    """A model that gives equal shares to three classes, whatever the image."""
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 32, 32])
    shares = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 3])
    nodes = [
        helper.make_node("ReduceMean", ["image", "axes"], ["means"], keepdims=0),
        helper.make_node("Sub", ["means", "means"], ["zeros"]),
        helper.make_node("Softmax", ["zeros"], ["probabilities"]),
    ]
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3])
    graph = helper.make_graph(nodes, "g", [image], [shares], [axes])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return make_bundle(tmp_path / "bundle", model=proto.SerializeToString(), target="tensorrt", build=BUILT)


def machine(monkeypatch: pytest.MonkeyPatch, *, gpu: bool, **found: Any) -> None:
    monkeypatch.setattr(libraries, "has_gpu", lambda: gpu)
    for row in libraries.LIBRARIES:
        monkeypatch.setitem(sys.modules, row.module, found.get(row.module))


def test_without_a_gpu_it_says_what_to_do(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, gpu=False)
    with pytest.raises(
        MissingToolError, match=r"only on an NVIDIA GPU, and there is none here\. .*--target onnx"
    ) as error:
        runtime.open_bundle(bundle)
    assert error.value.exit_code == 2


def test_without_the_library_it_says_what_to_install(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, gpu=True)
    with pytest.raises(MissingToolError, match=r"running an engine needs TensorRT: .*pip install"):
        runtime.open_bundle(bundle)
    assert "tensorrt is not installed" in runtime.find_ways(bundle).notes[-1]


def test_without_a_gpu_the_graph_is_run_and_the_rest_is_said(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, gpu=False)
    ways = runtime.find_ways(bundle)
    for opened in ways.open:
        with opened() as runner:
            assert runner.name.startswith("onnxruntime")
            np.testing.assert_allclose(runner.run(np.ones((2, 3, 32, 32), np.float32))[0], 1 / 3)
    note = ways.notes[-1]
    for said in ("no", "8.6", "tensorrt_rtx 1.7", "was not run", "builder's report"):
        assert said in note


def test_a_bundle_without_an_engine_says_so(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, gpu=False)
    for build in (None, {"engine": None}, {"engine": "?"}):
        bare = dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, build=build))
        assert "no engine is in the bundle" in runtime.find_ways(bare).notes[-1]


def test_it_says_why_the_bundle_has_no_engine(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, gpu=False)
    build = {"engine": None, "not_built": "tensorrt_rtx is not installed"}
    bare = dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, build=build))
    assert "no engine is in the bundle (tensorrt_rtx is not installed)" in runtime.find_ways(bare).notes[-1]


@pytest.mark.parametrize("said", [5, True, None, "8.6", {"8.6": 1}, [[5]]])
def test_a_manifest_may_say_anything_of_its_engine(bundle: Bundle, monkeypatch: pytest.MonkeyPatch, said: Any) -> None:
    machine(monkeypatch, gpu=False)
    build = {"engine": {"compute_capabilities": said, "file": said}, "not_built": said}
    odd = dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, build=build))
    assert "was not run" in runtime.find_ways(odd).notes[-1]


def test_a_precision_that_is_not_known_builds_no_engine(bundle: Bundle) -> None:
    odd = dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, precision="fp64"))
    with pytest.raises(BundleError, match="precision 'fp64' is not known here"):
        runtime._make_request(odd, SimpleNamespace())


@pytest.mark.parametrize(
    ("version", "capability", "taken"),
    [("1.7", (8, 6), b"shipped"), ("1.8", (8, 6), b"built"), ("1.7", (8, 9), b"built")],
)
def test_the_engine_in_the_bundle_is_taken_where_it_fits(
    make_bundle: Callable[..., Bundle],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    version: str,
    capability: tuple[int, int],
    taken: bytes,
) -> None:
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: capability)
    monkeypatch.setattr(runtime.engines, "get_engine", lambda trt, request, progress: SimpleNamespace(data=b"built"))
    build = {**BUILT, "engine": {**BUILT["engine"], "file": "model.onnx"}}
    bundle = make_bundle(tmp_path / "with", model=b"shipped", target="tensorrt", build=build)
    trt: Any = SimpleNamespace(__name__="tensorrt_rtx", __version__=version)
    assert runtime._get_engine(bundle, trt, runtime._make_request(bundle, trt)) == taken
    outside = dataclasses.replace(
        bundle,
        manifest=dataclasses.replace(bundle.manifest, build={"engine": {**BUILT["engine"], "file": "../secret"}}),
    )
    assert runtime._get_engine(outside, trt, runtime._make_request(outside, trt)) == b"built"


class Engine:
    """An engine of y = mean over H and W of x, and its own context, on the CPU."""

    def __init__(self, names: tuple[str, ...] = ("probabilities", "image"), most: int = 4) -> None:
        self.names, self.num_io_tensors, self.most = names, len(names), most
        self.addresses: dict[str, int] = {}
        self.works = True

    def create_execution_context(self) -> "Engine":
        return self

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def get_tensor_mode(self, name: str) -> str:
        return "in" if name == "image" else "out"

    def get_tensor_dtype(self, name: str) -> type:
        return np.float32

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.batch = shape[0]
        return shape[0] <= self.most

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (self.batch, 3)

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def execute_async_v3(self, stream: int) -> bool:
        x, y = (self._array(name, shape) for name, shape in (("image", (3, 32, 32)), ("probabilities", (3,))))
        y[:] = x.mean((2, 3))
        return self.works

    def _array(self, name: str, shape: tuple[int, ...]) -> Any:
        import ctypes

        count = self.batch * int(np.prod(shape))
        memory = (ctypes.c_float * count).from_address(self.addresses[name])
        return np.frombuffer(memory, np.float32).reshape(self.batch, *shape)


TRT = SimpleNamespace(
    __name__="tensorrt", __version__="10.3", TensorIOMode=SimpleNamespace(INPUT="in"), nptype=lambda kind: kind
)


def test_an_engine_is_run(bundle: Bundle) -> None:
    with runtime.EngineRunner(TRT, Engine(), "cpu") as runner:
        runner.check(bundle)
        assert runner.name == "tensorrt 10.3"
        for batch in (1, 3):
            image = np.random.default_rng(batch).standard_normal((batch, 3, 32, 32), np.float32)
            (found,) = runner.run(image)
            np.testing.assert_allclose(found, image.mean((2, 3)), atol=1e-6)
        image = np.random.default_rng(0).standard_normal((2, 32, 32, 3), np.float32).transpose(0, 3, 1, 2)
        np.testing.assert_allclose(runner.run(image)[0], image.mean((2, 3)), atol=1e-6)  # it was not contiguous


def test_what_an_engine_refuses_is_an_error(bundle: Bundle) -> None:
    engine = Engine()
    with runtime.EngineRunner(TRT, engine, "cpu") as runner:
        with pytest.raises(BundleError, match=r"not built for \(5, 3, 32, 32\)"):
            runner.run(np.zeros((5, 3, 32, 32), np.float32))
        engine.works = False
        with pytest.raises(BundleError, match="failed on the GPU"):
            runner.run(np.zeros((1, 3, 32, 32), np.float32))
    with runtime.EngineRunner(TRT, Engine(("image", "scores")), "cpu") as runner:
        with pytest.raises(BundleError, match=r"it has image float32, scores float32\."):
            runner.check(bundle)
    halves = SimpleNamespace(**{**vars(TRT), "nptype": lambda kind: np.float16})
    with runtime.EngineRunner(halves, Engine(), "cpu") as runner:
        with pytest.raises(BundleError, match=r"it has image float16, probabilities float16\."):
            runner.check(bundle)
