"""The table of operators against what it describes: torch operators, bodies, kernels."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper
from onnx.reference import ReferenceEvaluator

from evm_deploy.cuda.compile import SOURCE
from evm_deploy.cuda.plan import LaunchPlan
from evm_deploy.graph import functions
from evm_deploy.operators import DOMAIN, OPERATORS, Operator, find_operator, is_scan
from evm_deploy.operators.operator import STATE
from evm_deploy.profiling.kinds import KINDS
from evm_deploy.scan.inputs import QuantizedScan2DInputs, Scan2DInputs, ScanInputs
from evm_deploy.scan.kernel_inputs import CausalConvInputs, GroupedScanInputs, OrderedScanInputs
from evm_deploy.tolerances import KERNEL_RELATIVE

NATIVE = Path(__file__).parents[2] / "native"
CUDA = SOURCE.parent
INPUTS = {
    "SelectiveScan": ScanInputs,
    "EfficientScan2D": Scan2DInputs,
    "GroupedScan": GroupedScanInputs,
    "OrderedScan": OrderedScanInputs,
    "CausalConv": CausalConvInputs,
    "QuantizedEfficientScan2D": QuantizedScan2DInputs,
}
SHAPES = {  # of one node of each, with K = 4 groups, D = 6 channels, N = 3 states, R = 2
    "SelectiveScan": [(1, 4, 9, 6), (1, 4, 9, 6), (4, 3, 6), (1, 4, 9, 3), (1, 4, 9, 3), (4, 6), (4, 6)],
    "EfficientScan2D": [(1, 5, 6, 6), (4, 6, 8), (4, 2, 6), (4, 6), (4, 3, 6), (4, 6)],
    "CausalConv": [(1, 9, 6), (4, 2, 6), (4, 6), (4, 9)],
    "GroupedScan": [(1, 9, 6), (4, 6, 8), (4, 2, 6), (4, 6), (4, 3, 6), (4, 6), (4, 9)],
    "OrderedScan": [(1, 9, 6), (4, 6, 8), (4, 2, 6), (4, 6), (4, 3, 6), (4, 6), (4, 9), (2, 9)],
    "QuantizedEfficientScan2D": [(1, 5, 6, 6), (), (), (4, 6, 8), (4, 8), (4, 2, 6), (4, 6), (4, 3, 6), (4, 6)],
    "GatedNorm": [(1, 5, 6, 6), (1, 5, 6, 6), (6,), (6,)],
    "MeanOfNorm": [(1, 5, 6, 6), (6,), (6,)],
}
operators = pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)


def body_of(operator: Operator) -> onnx.FunctionProto:
    return functions.write_body(operator, 20, **dict.fromkeys(operator.specialised, 2))


def test_reading_the_table_imports_no_library() -> None:
    code = "import sys, evm_deploy.profiling.kinds, evm_deploy.operators; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "onnx", "onnxscript", "numpy"} & set(loaded)


@operators
def test_the_torch_operator_takes_what_the_node_does(operator: Operator) -> None:
    if operator.torch_op is not None:
        taken = [argument.name for argument in operator.torch_op()._schema.arguments]
        assert taken == [*operator.inputs, *operator.attributes]


@pytest.mark.parametrize("name", INPUTS)
def test_the_inputs_of_the_scans_are_those_of_the_node(name: str) -> None:
    operator, inputs = OPERATORS[name], INPUTS[name]
    assert [*inputs._fields] == [*operator.inputs, *operator.attributes]
    if inputs is not QuantizedScan2DInputs:
        states = inputs(*[None] * len(inputs._fields)).states
        assert {operator.place(state) for state in states} == set(operator.places(STATE))


@operators
def test_a_body_uses_its_inputs_and_the_operators_it_says(operator: Operator) -> None:
    body = body_of(operator)
    made = {name for node in body.node for name in node.output}
    assert {name for node in body.node for name in node.input} - made == set(operator.inputs)
    assert {node.op_type for node in body.node if node.domain == DOMAIN} == {called.name for called in operator.calls}
    names = list(OPERATORS)
    assert all(names.index(called.name) < names.index(operator.name) for called in operator.calls)


@pytest.mark.parametrize("name", SHAPES)
def test_onnx_itself_evaluates_a_node(name: str) -> None:
    """Not a lookup: the GatherElements of its evaluator takes tables of at most 64 entries."""
    operator = OPERATORS[name]
    rng = np.random.default_rng(0)

    def tensor(shape: tuple[int, ...], kind: str) -> np.ndarray:
        if "int64" in kind:
            return np.arange(np.prod(shape)).reshape(shape) % 9
        if "int8" in kind:
            return rng.integers(0, 100, shape).astype("uint8" if "uint8" in kind else "int8")
        return np.asarray(rng.uniform(0.1, 1, shape), np.float32)

    names = list(operator.inputs)
    given = {n: tensor(shape, operator.inputs[n]) for n, shape in zip(names, SHAPES[operator.name], strict=True)}
    given |= {"A": -given["A"]} if "A" in given else {}
    values = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in given.items()
    ]
    attributes = {name: kind(1e-5) if kind is float else 2 for name, kind in operator.attributes.items()}
    node = helper.make_node(operator.name, names, ["y"], domain=DOMAIN, **attributes)
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    imports = [helper.make_opsetid("", 20), helper.make_opsetid(DOMAIN, 1)]
    graph = helper.make_graph([node], "node", values, [y])
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    model.functions.extend(functions.bodies(model))
    expected = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(
        ReferenceEvaluator(model).run(None, given)[0], expected.run(None, given)[0], rtol=5 * KERNEL_RELATIVE, atol=1e-6
    )


def test_the_kernels_are_those_that_the_libraries_have() -> None:
    library = set(re.findall(r'kName = "(\w+)"', (NATIVE / "operators.h").read_text()))
    assert library == {operator.name for operator in OPERATORS.values() if operator.library}
    defined = " ".join(file.read_text() for file in CUDA.glob("*.cu"))
    kernels = {f"evm_{name}" for name in re.findall(r"^evm_(\w+)\(", defined, re.MULTILINE)}
    assert {plan_of(operator).entry for operator in OPERATORS.values() if operator.gpu is not None} == kernels


def plan_of(operator: Operator) -> LaunchPlan:
    assert operator.gpu is not None
    return operator.gpu.plan(SHAPES[operator.name], "float32", 16, **dict.fromkeys(operator.attributes, 2))


@pytest.mark.parametrize("name", [name for name, operator in OPERATORS.items() if operator.gpu is not None])
def test_the_sides_of_a_kernel_are_sides_of_inputs(name: str) -> None:
    operator = OPERATORS[name]
    shapes = dict(zip(operator.inputs, SHAPES[name], strict=True))
    assert operator.gpu is not None
    assert len([shapes[side][axis] for side, axis in operator.gpu.sizes]) in (3, 4)
    first = next(iter(operator.inputs))
    assert operator.gpu.result[0] == (first, 0)  # the grid is proportional to it
    if (inputs := INPUTS.get(name)) is not None:
        given = [torch.zeros(shape) for shape in SHAPES[name]]
        assert inputs(*given, *[2] * len(operator.attributes)).result_shape == tuple(
            shapes[side][axis] for side, axis in operator.gpu.result
        )


@operators
def test_a_weight_and_its_quantised_form_say_the_same(operator: Operator) -> None:
    assert operator.kind in KINDS
    weight = operator.weight
    if weight is None:
        return
    assert {weight.input, weight.second} <= operator.inputs.keys()
    if weight.quantised is not None:
        assert weight.quantised.weight is not None
        assert weight.quantised.weight.integer
        others = list(operator.inputs)[2:]
        assert list(weight.quantised.inputs)[5:] == others  # after x, its scale and zero point, the weight, its scales


def test_only_a_node_of_our_domain_is_one_of_ours() -> None:
    ours = helper.make_node("SelectiveScan", ["u"], ["y"], domain=DOMAIN)
    theirs = helper.make_node("SelectiveScan", ["u"], ["y"], domain="com.microsoft")
    norm = helper.make_node("GatedNorm", ["x"], ["y"], domain=DOMAIN)
    assert (find_operator(ours), find_operator(theirs)) == (OPERATORS["SelectiveScan"], None)
    assert [is_scan(node) for node in (ours, theirs, norm)] == [True, False, False]
