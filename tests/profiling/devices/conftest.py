"""Bundles that a runtime can really run, and small enough that this takes no time."""

import dataclasses
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from evm_deploy.bundle import Bundle, Manifest, Sample, write_bundle

Make = Callable[..., Bundle]


def _helper(name: str) -> ModuleType:
    """A module beside this file: tests are no package that one could import from."""
    spec = importlib.util.spec_from_file_location(f"devices_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _network(bias: float) -> bytes:
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 32, 32])
    scores = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 3])
    offset = helper.make_tensor("offset", TensorProto.FLOAT, [3], [bias, 0.0, 0.0])
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Add", ["flat", "offset"], ["moved"]),
        helper.make_node("Softmax", ["moved"], ["probabilities"]),
    ]
    graph = helper.make_graph(nodes, "small", [image], [scores], [offset])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return bytes(onnx.ModelProto.SerializeToString(model))


@pytest.fixture
def small_bundle(manifest: Manifest) -> Make:
    """Writes a bundle of a network with four nodes: `small_bundle(out, bias=..., golden=..., **manifest)`."""

    def make(out: Path, bias: float = 1.0, golden: bool = True, **changes: object) -> Bundle:
        model = _network(bias)
        image = np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32)
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        (expected,) = session.run(None, {"image": image})
        with write_bundle(out) as draft:
            (draft.path / "model.onnx").write_bytes(model)
            draft.write_sample(Sample(image, (expected if golden else expected[:, ::-1].copy(),)))
            draft.seal(dataclasses.replace(manifest, **changes))
        return Bundle.open(out)

    return make


@pytest.fixture(scope="session")
def sshd() -> ModuleType:
    """The functions of `sshd.py`."""
    module = _helper("sshd")
    if module.SSHD is None or not Path("/proc").is_dir():
        pytest.skip("there is no sshd here")
    return module


@pytest.fixture
def phones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Plugs in a phone that `adb` finds: `phones(serial, state=..., **behaviour)`. See `phone.py`."""
    module = _helper("phone")
    folder, path = tmp_path / "phones", tmp_path / "path"
    folder.mkdir()
    path.mkdir()
    module.install_adb(path, folder)
    monkeypatch.setenv("PATH", str(path), prepend=os.pathsep)

    def make(serial: str = "PHONE1", **is_: Any) -> Any:
        return module.Phone(folder, serial, **is_)

    make.runner = module.runner  # type: ignore[attr-defined]
    return make
