"""A graph cut at our operators: its steps, taken one after another, give what the whole graph gives."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from evm_deploy.bundle import Bundle
from evm_deploy.errors import BundleError
from evm_deploy.graph.cut import PLAN, split_graph
from evm_deploy.graph.functions import bodies
from evm_deploy.operators import DOMAIN, OPERATORS, VERSION
from evm_deploy.tolerances import find_tolerance

TYPES = {"float32": np.float32, "uint8": np.uint8, "int8": np.int8, "int64": np.int64}
Values = dict[str, np.ndarray]


def run_steps(bundle: Bundle, files: dict[str, bytes], folder: Path) -> list[np.ndarray]:
    """The outputs for the golden input: parts by onnxruntime, the operators between them by their bodies."""
    model = bundle.read_model()
    (folder / bundle.manifest.model_file).write_bytes(model)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    plan = json.loads(files[PLAN])
    values = {name: weight(model, **facts) for name, facts in plan["weights"].items()}
    values[plan["inputs"][0]] = bundle.sample().input
    for step in plan["steps"]:
        given = {name: values[name] for name in step["inputs"]}
        if "part" in step:
            session = onnxruntime.InferenceSession(folder / step["part"], providers=["CPUExecutionProvider"])
            values |= zip(step["outputs"], session.run(step["outputs"], given), strict=True)
        else:
            values[step["output"]] = run_operator(step, given)
    return [values[name] for name in plan["outputs"]]


def weight(model: bytes, type: str, dims: list[int], offset: int) -> np.ndarray:
    return np.frombuffer(model, TYPES[type], int(np.prod(dims)), offset).reshape(dims)


def run_operator(step: dict[str, Any], given: Values) -> np.ndarray:
    operator = OPERATORS[step["operator"]]
    attributes = dict(zip(operator.attributes, step["attributes"], strict=True))
    node = helper.make_node(operator.name, step["inputs"], ["y"], domain=DOMAIN, **attributes)
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in given.items()
    ]
    graph = helper.make_graph([node], "one", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    imports = [helper.make_opsetid("", 20), helper.make_opsetid(DOMAIN, VERSION)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=9)
    model.functions.extend(bodies(model))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, given)[0])


@pytest.fixture(scope="module")
def digits(exported: Callable[..., Bundle]) -> Bundle:
    return exported("digits")


def difference(bundle: Bundle, files: dict[str, bytes], folder: Path) -> float:
    (found,) = run_steps(bundle, files, folder)
    (expected,) = bundle.sample().outputs
    return float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))


def test_the_steps_meet_the_golden_pair(digits: Bundle, tmp_path: Path) -> None:
    files = split_graph(digits)
    assert difference(digits, files, tmp_path) < find_tolerance(digits.manifest)
    assert split_graph(digits) == files
    plan = json.loads(files[PLAN])
    assert {step["operator"] for step in plan["steps"] if "operator" in step} == {
        "EfficientScan2D", "GatedNorm", "MeanOfNorm",
    }  # fmt: skip
    parts = [onnx.load_model_from_string(data) for name, data in files.items() if name != PLAN]
    assert not [node for part in parts for node in part.graph.node if node.domain == DOMAIN]
    assert sum(map(len, files.values())) < len(digits.read_model()) / 4  # the weights are where they were


def test_a_lost_carry_is_seen(digits: Bundle, tmp_path: Path) -> None:
    """Of states that decay at once, none reaches the next token."""
    files = split_graph(digits)
    plan = json.loads(files[PLAN])
    model = digits.read_model()
    for step in plan["steps"]:
        if step.get("operator") == "EfficientScan2D":
            place = plan["weights"][step["inputs"][4]]
            A = weight(model, **place)
            model = model[: place["offset"]] + (A * 1e6).tobytes() + model[place["offset"] + A.nbytes :]

    class Changed:
        manifest, sample = digits.manifest, digits.sample

        def read_model(self) -> bytes:
            return model

    assert difference(Changed(), files, tmp_path) > 10 * find_tolerance(digits.manifest)  # type: ignore[arg-type]


def test_a_graph_without_our_operators_is_left_alone(make_bundle: Callable[..., Bundle], tmp_path: Path) -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "plain", [value], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    assert split_graph(make_bundle(tmp_path / "plain", model=model.SerializeToString())) == {}


def test_what_is_no_graph_is_refused(make_bundle: Callable[..., Bundle], tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no ONNX model"):
        split_graph(make_bundle(tmp_path / "text", model=b"this is text"))
