"""The function bodies, as stock onnxruntime inlines them, against the sequential reference."""

from collections.abc import Callable, Sequence

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from evm_deploy.errors import InputError
from evm_deploy.exporters.export_options import OPSETS
from evm_deploy.graph import functions
from evm_deploy.operators import OPERATORS
from evm_deploy.scan import reference
from evm_deploy.scan.inputs import Scan2DInputs, ScanInputs
from evm_deploy.tolerances import FP16_IO_RELATIVE, KERNEL_RELATIVE

Error = Callable[..., float]
Inputs = dict[str, np.ndarray]
STATE = ("A", "D", "delta_bias", "dt_bias")  # float32 in every precision


def body_of(name: str, opset: int, **values: int) -> onnx.FunctionProto:
    return functions.write_body(OPERATORS[name], opset, **values)


def run(op: str, inputs: Inputs, bodies: Sequence[onnx.FunctionProto], opset: int, **attributes: int) -> np.ndarray:
    """One node of the operator, by its body alone."""
    types = {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in inputs.items()}
    values = [helper.make_tensor_value_info(name, types[name], [None] * inputs[name].ndim) for name in inputs]
    node = helper.make_node(op, list(inputs), ["y"], domain="evm", **attributes)
    y = helper.make_tensor_value_info("y", types[next(iter(inputs))], None)
    graph = helper.make_graph([node], "scan", values, [y])
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("evm", 1)]
    model = helper.make_model(graph, functions=bodies, opset_imports=imports, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


def scan_inputs(batch: int, K: int, L: int, D: int, N: int, seed: int, step: float = 1.0) -> Inputs:
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, dtype=np.float32)

    return {
        "u": normal(batch, K, L, D),
        "delta": step * rng.random((batch, K, L, D), dtype=np.float32),
        "A": -np.exp(normal(K, N, D)),
        "B": normal(batch, K, L, N),
        "C": normal(batch, K, L, N),
        "D": normal(K, D),
        "delta_bias": np.abs(normal(K, D)),
    }


def scan_2d_inputs(batch: int, H: int, W: int, D: int, N: int, R: int, step: int, seed: int) -> Inputs:
    rng = np.random.default_rng(seed)
    K = step * step

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, dtype=np.float32)

    return {
        "x": normal(batch, H, W, D),
        "x_proj": normal(K, D, R + 2 * N) / np.float32(D**0.5),
        "dt_proj": normal(K, R, D),
        "dt_bias": normal(K, D) - 3,
        "A": -np.exp(normal(K, N, D)),
        "D": normal(K, D),
    }


def double(inputs: Inputs) -> list[torch.Tensor]:
    return [torch.from_numpy(array).double() for array in inputs.values()]


def relative(found: np.ndarray, expected: torch.Tensor) -> float:
    wanted = expected.numpy()
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


@settings(max_examples=25)
@given(
    batch=st.integers(1, 2),
    K=st.integers(1, 3),
    L=st.integers(1, 70),
    D=st.integers(1, 9),
    N=st.sampled_from([1, 3, 16]),
    chunk=st.sampled_from([2, 5, 28]),
    softplus=st.booleans(),
    seed=st.integers(0, 99),
)
def test_selective_scan(
    scan_error: Error, batch: int, K: int, L: int, D: int, N: int, chunk: int, softplus: bool, seed: int
) -> None:
    inputs = scan_inputs(batch, K, L, D, N, seed)
    y = run("SelectiveScan", inputs, [body_of("SelectiveScan", 20, chunk=chunk)], 20, delta_softplus=int(softplus))
    assert scan_error(torch.from_numpy(y), double(inputs), softplus) <= KERNEL_RELATIVE


@pytest.mark.parametrize("L", [27, 28, 29, 784, 785, 3000])
def test_carry_over_every_level(L: int) -> None:
    inputs = scan_inputs(1, 1, L, 3, 2, seed=L, step=1e-3)
    inputs["delta_bias"] *= 0
    inputs["u"][:, :, L // 3 :] = 0  # what the end shows, it got from the beginning
    y = run("SelectiveScan", inputs, [body_of("SelectiveScan", 20)], 20, delta_softplus=0)
    expected = reference.run(ScanInputs(*double(inputs)))
    assert expected[:, :, -1].abs().max() > 1e-4 * expected.abs().max()
    assert relative(y, expected) <= KERNEL_RELATIVE


@pytest.mark.parametrize("size", [1e3, 1e20, 1.5e37])
def test_decay_as_large_as_float32_allows(size: float) -> None:
    inputs = scan_inputs(1, 2, 60, 5, 4, seed=1, step=20.0)
    inputs["A"] = np.full_like(inputs["A"], -size)
    y = run("SelectiveScan", inputs, [body_of("SelectiveScan", 20)], 20, delta_softplus=1)
    assert np.isfinite(y).all()
    assert relative(y, reference.run(ScanInputs(*double(inputs), True))) <= KERNEL_RELATIVE


@settings(max_examples=20)
@given(
    batch=st.integers(1, 2),
    H=st.integers(1, 11),
    W=st.integers(1, 11),
    D=st.integers(1, 9),
    N=st.sampled_from([1, 4]),
    R=st.integers(1, 3),
    step=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_efficient_scan_2d(
    scan_2d_error: Error, batch: int, H: int, W: int, D: int, N: int, R: int, step: int, seed: int
) -> None:
    inputs = scan_2d_inputs(batch, H, W, D, N, R, step, seed)
    bodies = [body_of("EfficientScan2D", 20, step=step), body_of("SelectiveScan", 20)]
    y = run("EfficientScan2D", inputs, bodies, 20, step=step)
    assert scan_2d_error(torch.from_numpy(y), double(inputs), step) <= 5 * KERNEL_RELATIVE  # + projections


@pytest.mark.parametrize("opset", OPSETS)
def test_every_opset(opset: int) -> None:
    inputs = scan_2d_inputs(1, 6, 5, 4, 2, 2, 2, seed=opset)
    bodies = [body_of("EfficientScan2D", opset), body_of("SelectiveScan", opset)]
    y = run("EfficientScan2D", inputs, bodies, opset, step=2)
    assert relative(y, reference.run(Scan2DInputs(*double(inputs)))) <= 5 * KERNEL_RELATIVE


def test_float16_in_and_out_with_a_float32_recurrence() -> None:
    inputs = scan_2d_inputs(1, 12, 10, 8, 4, 2, 2, seed=0)
    half = {name: array if name in STATE else array.astype(np.float16) for name, array in inputs.items()}
    bodies = [body_of("EfficientScan2D", 20), body_of("SelectiveScan", 20)]
    y = run("EfficientScan2D", half, bodies, 20, step=2)
    assert y.dtype == np.float16
    assert relative(y, reference.run(Scan2DInputs(*double(half)))) <= FP16_IO_RELATIVE


def test_bodies_use_neither_loops_nor_branches() -> None:
    for body in (body_of("SelectiveScan", 20), body_of("EfficientScan2D", 20)):
        assert not {node.op_type for node in body.node} & {"Loop", "Scan", "If", "Einsum"}
        assert all(node.domain in ("", "evm") for node in body.node)
        assert not any(len(node.input) > 3 for node in body.node if node.op_type == "Pad")  # wrong in onnxruntime 1.20


def test_a_lost_carry_is_seen() -> None:
    """The same body with what enters each chunk replaced by zeros fails the tolerance by far."""
    inputs = scan_inputs(1, 1, 100, 3, 2, seed=3, step=0.1)
    body = body_of("SelectiveScan", 20)
    carried = next(node for node in reversed(body.node) if node.op_type == "Slice" and node.input[0].startswith("pad"))
    zeros = helper.make_node("Sub", [carried.output[0], carried.output[0]], ["nothing"])
    position = list(body.node).index(carried) + 1
    for node in body.node[position:]:
        node.input[:] = ["nothing" if name == carried.output[0] else name for name in node.input]
    body.node.insert(position, zeros)
    y = run("SelectiveScan", inputs, [body], 20, delta_softplus=0)
    assert relative(y, reference.run(ScanInputs(*double(inputs)))) > 1000 * KERNEL_RELATIVE


def test_only_what_the_graph_calls_is_carried() -> None:
    def graph(*nodes: onnx.NodeProto) -> onnx.ModelProto:
        value = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        return helper.make_model(
            helper.make_graph(nodes, "g", [], [value]), opset_imports=[helper.make_opsetid("", 21)]
        )

    scan = helper.make_node("SelectiveScan", [""] * 7, ["y"], domain="evm", delta_softplus=1)
    scan_2d = helper.make_node("EfficientScan2D", [""] * 6, ["y"], domain="evm", step=3)
    assert functions.bodies(graph(helper.make_node("Relu", ["x"], ["y"]))) == []
    assert [body.name for body in functions.bodies(graph(scan))] == ["SelectiveScan"]
    assert [body.name for body in functions.bodies(graph(scan_2d))] == ["SelectiveScan", "EfficientScan2D"]
    assert functions.bodies(graph(scan))[0].opset_import[0].version == 21


def node_of(op: str, inputs: Sequence[str], y: str, **attributes: int) -> onnx.NodeProto:
    return helper.make_node(op, inputs, [y], name=f"node_of_{y}", domain="evm", **attributes)


def model_of(nodes: Sequence[onnx.NodeProto], inputs: Inputs, outputs: Sequence[str]) -> onnx.ModelProto:
    """The nodes with the bodies that they need."""
    values = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in inputs.items()
    ]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("evm", 1)]
    proto = helper.make_model(helper.make_graph(nodes, "g", values, results), opset_imports=imports, ir_version=10)
    proto.functions.extend(functions.bodies(proto))
    return proto


@settings(max_examples=20)
@given(lengths=st.lists(st.sampled_from([1, 2, 5, 9, 16, 17, 50]), min_size=1, max_size=2), seed=st.integers(0, 9))
def test_a_body_that_is_written_for_the_longest_sequence_is_right_for_all(lengths: list[int], seed: int) -> None:
    cases = [scan_inputs(1, 2, L, 3, 2, seed) for L in lengths]
    inputs = {f"{name}{i}": array for i, case in enumerate(cases) for name, array in case.items()}
    nodes = [
        node_of("SelectiveScan", [f"{name}{i}" for name in case], f"y{i}", delta_softplus=0)
        for i, case in enumerate(cases)
    ]
    proto = model_of(nodes, inputs, [f"y{i}" for i in range(len(nodes))])
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for case, y in zip(cases, session.run(None, inputs), strict=True):
        assert relative(y, reference.run(ScanInputs(*double(case)))) <= KERNEL_RELATIVE


def test_the_shorter_the_sequences_the_fewer_nodes_has_the_body() -> None:
    def count_nodes(height: int, width: int, step: int) -> int:
        inputs = scan_2d_inputs(1, height, width, 4, 2, 2, step, seed=0)
        scan, _ = model_of([node_of("EfficientScan2D", list(inputs), "y", step=step)], inputs, ["y"]).functions
        return len(scan.node)

    free = len(body_of("SelectiveScan", 20).node)
    assert count_nodes(4, 6, 2) < count_nodes(8, 15, 2) < count_nodes(8, 15, 1) < count_nodes(56, 56, 2) < free
    assert free < count_nodes(112, 112, 2) == count_nodes(180, 180, 2)


@pytest.mark.parametrize(
    ("shape", "attributes"), [([1, 6, 5], {"step": 2}), ([1, 6, 5, 4], {}), ([1, 6, 5, 4], {"step": 0})]
)
def test_a_node_that_no_check_passes_has_no_length(shape: list[int], attributes: dict[str, int]) -> None:
    names = [f"x{i}" for i in range(6)]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in names]
    scan_2d = helper.make_node("EfficientScan2D", names, ["y"], domain="evm", **attributes)
    graph = helper.make_graph([scan_2d], "g", values, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    assert functions._count_tokens(graph) is None


def test_an_attribute_that_the_body_reads_may_differ_from_node_to_node() -> None:
    inputs = scan_inputs(1, 2, 30, 3, 2, seed=4)
    nodes = [node_of("SelectiveScan", list(inputs), f"y{flag}", delta_softplus=flag) for flag in (0, 1)]
    proto = model_of(nodes, inputs, ["y0", "y1"])
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for flag, y in enumerate(session.run(None, inputs)):
        assert relative(y, reference.run(ScanInputs(*double(inputs), bool(flag)))) <= KERNEL_RELATIVE


def test_an_attribute_that_the_body_is_written_for_may_not() -> None:
    inputs = scan_2d_inputs(1, 6, 5, 4, 2, 2, 2, seed=0)
    names = list(inputs)
    with pytest.raises(InputError, match=r"node_of_y0 has step 2, and node_of_y1 has step 3: .* EfficientScan2D"):
        model_of([node_of("EfficientScan2D", names, f"y{i}", step=2 + i) for i in range(2)], inputs, ["y0", "y1"])
    model_of([node_of("EfficientScan2D", names, f"y{i}", step=2) for i in range(2)], inputs, ["y0", "y1"])


def test_every_body_comes_after_those_that_it_calls() -> None:
    """onnx's own evaluator needs that, and computes what onnxruntime does."""
    inputs = scan_2d_inputs(1, 6, 5, 4, 2, 2, 2, seed=0)
    proto = model_of([node_of("EfficientScan2D", list(inputs), "y", step=2)], inputs, ["y"])
    y = ReferenceEvaluator(proto).run(None, inputs)[0]
    assert relative(y, reference.run(Scan2DInputs(*double(inputs)))) <= 1e-5
    swapped = onnx.ModelProto()
    swapped.CopyFrom(proto)
    swapped.functions.reverse()
    with pytest.raises(RuntimeError, match="SelectiveScan"):
        ReferenceEvaluator(swapped)
