"""Inspect: what is said of a file is what is in it, and a file that is not what its name says is an error."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from evm_deploy.bundle import Bundle
from evm_deploy.cli import main
from evm_deploy.errors import InputError
from evm_deploy.files import sha256_file
from evm_deploy.inspection import inspect
from evm_deploy.models import EfficientVMamba, ModelConfig, count_parameters, tensor_files


def model(domain: str = "evm", *, body: bool = True) -> onnx.ModelProto:
    """Two scans after an Identity, with the function that gives a scan its meaning, or without."""
    shape = ["batch", 3, None]
    graph = helper.make_graph(
        [
            helper.make_node("Identity", ["x"], ["a"]),
            helper.make_node("SelectiveScan", ["a"], ["b"], domain=domain),
            helper.make_node("SelectiveScan", ["b"], ["y"], domain=domain),
        ],
        "main",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, [1])],
        [
            onnx.numpy_helper.from_array(np.zeros((2, 3), np.float32), "w"),
            helper.make_tensor("h", TensorProto.FLOAT16, [4], [0.0] * 4),
        ],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(domain, 1)]
    nodes = [helper.make_node("Neg", ["u"], ["y"])]
    function = helper.make_function(domain, "SelectiveScan", ["u"], ["y"], nodes, opsets[:1])
    return helper.make_model(graph, opset_imports=opsets, functions=[function] if body else [])


def test_an_onnx_file(tmp_path: Path) -> None:
    onnx.save(model(), tmp_path / "model.onnx")
    found = inspect(tmp_path / "model.onnx")
    assert found.kind == "onnx"
    facts = found.facts
    assert facts["sha256"] == sha256_file(found.path)
    assert facts["opsets"] == {"ai.onnx": 20, "evm": 1}
    assert facts["inputs"] == {"x": "float (batch, 3, ?)"}
    assert facts["outputs"] == {"y": "float16 (1)"}
    assert facts["nodes"] == 3
    assert facts["operators"] == {"evm::SelectiveScan": 2, "Identity": 1}
    assert facts["function_nodes"] == {"evm::SelectiveScan": 1}
    assert facts["weight_bytes"] == {"float": 24, "float16": 8}
    assert facts["scan_is_one_operator"]
    assert facts["scan_runs_on_a_stock_runtime"]


def test_a_normalisation_of_ours_is_no_scan(tmp_path: Path) -> None:
    changed = model()
    for named in (*changed.graph.node[1:], changed.functions[0]):
        if isinstance(named, onnx.NodeProto):
            named.op_type = "GatedNorm"
        else:
            named.name = "GatedNorm"
    onnx.save(changed, tmp_path / "model.onnx")
    facts = inspect(tmp_path / "model.onnx").facts
    assert not facts["scan_is_one_operator"]
    assert facts["scan_runs_on_a_stock_runtime"]


def test_names_that_are_not_utf8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed = model().SerializeToString().replace(b"Identity", b"Id\xff\xfetity")
    (tmp_path / "model.onnx").write_bytes(changed)
    for options in ([], ["--json"]):
        assert main(["inspect", str(tmp_path / "model.onnx"), *options]) == 0
        assert "tity" in capsys.readouterr().out


def test_a_scan_without_its_body(tmp_path: Path) -> None:
    onnx.save(model(body=False), tmp_path / "model.onnx")
    facts = inspect(tmp_path / "model.onnx").facts
    assert facts["scan_is_one_operator"]
    assert not facts["scan_runs_on_a_stock_runtime"]


def test_a_model_of_others(tmp_path: Path) -> None:
    onnx.save(model(domain="other"), tmp_path / "model.onnx")
    assert not inspect(tmp_path / "model.onnx").facts["scan_is_one_operator"]


@pytest.mark.parametrize("content", [b"", b"hello world", b"\x08\x08\x12" + b"\xff" * 50])
def test_a_file_that_is_no_onnx(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(InputError, match=r"model\.onnx"):
        inspect(tmp_path / "model.onnx")


def test_a_bundle(tmp_path: Path, make_bundle: Callable[..., Bundle]) -> None:
    bundle = make_bundle(tmp_path / "out", model=model().SerializeToString())
    for path in (bundle.path, bundle.path / "manifest.json"):
        found = inspect(path)
        assert found.kind == "bundle"
        assert found.facts["task"] == "classification"
        assert found.facts["checkpoint"]["file"] == "tiny.pth"
        assert found.facts["files"]["model.onnx"] == bundle.model_path.stat().st_size
        assert found.facts["inputs"] == {"image": "float32 (batch, 3, 32, 32) NCHW image"}
        assert found.facts["onnx"]["nodes"] == 3


def test_a_damaged_bundle(tmp_path: Path, make_bundle: Callable[..., Bundle]) -> None:
    bundle = make_bundle(tmp_path / "out")
    bundle.model_path.write_bytes(b"other")
    with pytest.raises(InputError, match="sha256"):
        inspect(bundle.path)


@pytest.mark.parametrize("key", [None, "model_ema"])
def test_a_checkpoint(tmp_path: Path, key: str | None) -> None:
    network = EfficientVMamba(ModelConfig((16, 32, 64, 128), (1, 1, 1, 1), num_classes=10))
    weights = network.state_dict()
    torch.save({key: weights, "epoch": 3} if key else weights, tmp_path / "micro.pth")
    found = inspect(tmp_path / "micro.pth")
    assert found.kind == "checkpoint"
    assert found.facts["config"]["dims"] == (16, 32, 64, 128)
    assert found.facts["config"]["num_classes"] == 10
    assert found.facts["parameters"] == count_parameters(network)
    assert found.facts["weights_under"] == key
    assert found.facts["variant"] is None
    assert found.facts["sha256"] == sha256_file(found.path)


def test_a_checkpoint_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = EfficientVMamba(ModelConfig((16, 32), (1, 1), blocks=("inres", "inres"), num_classes=2))
    content = {"state_dict": network.state_dict() | {"total_ops": torch.zeros(1)}, "act": torch.nn.GELU}
    torch.save(content, tmp_path / "micro.pth")
    read, calls = tensor_files.read, []
    monkeypatch.setattr(tensor_files, "read", lambda path: calls.append(path) or read(path))
    facts = inspect(tmp_path / "micro.pth").facts
    assert len(calls) == 1
    assert facts["ignored"] == ("total_ops",)
    assert facts["not_loaded"] == (f"{torch.nn.GELU.__module__}.GELU",)


def test_a_file_that_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("notes")
    with pytest.raises(InputError, match=r"notes\.txt"):
        inspect(tmp_path / "notes.txt")


def test_a_pointer_of_git_lfs(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(InputError, match="git lfs pull"):
        inspect(tmp_path / "model.onnx")


def test_nothing_there(tmp_path: Path) -> None:
    for path in (tmp_path / "none.pth", tmp_path):
        with pytest.raises(InputError):
            inspect(path)
