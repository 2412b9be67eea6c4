"""Activations as tables: what they hold, where they stand, and that they change nothing."""

import dataclasses
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnxscript import ir

from evm_deploy import QuantizeOptions
from evm_deploy.bundle import Bundle
from evm_deploy.calib.onnx.integer_writer import write_integers
from evm_deploy.calib.onnx.layers import find_layers
from evm_deploy.calib.onnx.lookups import gelu, gelu_tanh, make_table, silu
from evm_deploy.calib.onnx.measure import Measured, build_integer_graph, finish_model, measure
from evm_deploy.calib.onnx.scheme import ONNXRUNTIME, TENSORRT, Scheme
from evm_deploy.calib.ranges import Range
from evm_deploy.data.samples import read_samples
from evm_deploy.operators import DOMAIN
from evm_deploy.runtimes.onnxruntime import OnnxRunner, profile_graph
from evm_deploy.scan import native
from evm_deploy.verification.integer_report import report_model_integers

Node = onnx.NodeProto
WITHOUT = dataclasses.replace(ONNXRUNTIME, lookups=False)
TO_NHWC = [0, 2, 3, 1]
FUNCTIONS = {"silu": silu, "none": gelu, "tanh": gelu_tanh}
LOW = st.one_of(st.just(0.0), st.floats(-30, 0), st.sampled_from([-1e-6, -0.2785, -1e3, -1e30]))
HIGH = st.one_of(st.floats(1e-3, 30), st.sampled_from([1e-6, 1e3, 1e30]))


@cache
def runtime_s_own(function: str) -> onnxruntime.InferenceSession:
    """x in uint8, its scale s and zero point z, and those of the result, t and w: the result as float and as uint8."""
    steps = [helper.make_node("DequantizeLinear", ["x", "s", "z"], ["f"])]
    if function == "silu":
        steps += [helper.make_node("Sigmoid", ["f"], ["g"]), helper.make_node("Mul", ["f", "g"], ["y"])]
    else:
        steps += [helper.make_node("Gelu", ["f"], ["y"], approximate=function)]
    steps += [helper.make_node("QuantizeLinear", ["y", "t", "w"], ["q"])]
    kinds = {"x": TensorProto.UINT8, "s": TensorProto.FLOAT, "z": TensorProto.UINT8}
    kinds |= {"t": TensorProto.FLOAT, "w": TensorProto.UINT8}
    inputs = [helper.make_tensor_value_info(name, kind, [256] if name == "x" else []) for name, kind in kinds.items()]
    outputs = [helper.make_tensor_value_info(*each) for each in (("y", TensorProto.FLOAT, [256]), ("q", 2, [256]))]
    model = helper.make_model(
        helper.make_graph(steps, "chain", inputs, outputs), opset_imports=[helper.make_opsetid("", 20)], ir_version=10
    )
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.mark.processor
@settings(max_examples=100)
@given(function=st.sampled_from(list(FUNCTIONS)), low=LOW, high=HIGH, share=st.floats(0.1, 1.5))
def test_a_table_is_what_the_runtime_makes_of_every_integer(
    function: str, low: float, high: float, share: float
) -> None:
    """`share`: the range of the result, of what is there; less than 1 clips."""
    given_ = ONNXRUNTIME.compute_parameters(Range(low, high))
    floats = make_table(FUNCTIONS[function], given_, None)
    span = Range(min(0.0, share * float(floats.min())), max(1e-12, share * float(floats.max())))
    wanted = ONNXRUNTIME.compute_parameters(span)
    integers = make_table(FUNCTIONS[function], given_, wanted)
    feed = {"x": np.arange(256, dtype=np.uint8), "s": given_[0], "z": given_[1], "t": wanted[0], "w": wanted[1]}
    y, q = runtime_s_own(function).run(None, {name: np.asarray(value) for name, value in feed.items()})
    assert floats.dtype == np.float32
    assert integers.dtype == np.uint8
    np.testing.assert_allclose(floats, y, rtol=2e-6, atol=3e-7 * max(-low, high))  # the runtime's sigmoid is so exact
    differs = integers != q  # only where the two lie on both sides of a tie
    steps, apart = floats[differs] / np.float64(wanted[0]), np.abs(floats - y)[differs] / np.float64(wanted[0])
    assert (np.abs(integers[differs].astype(int) - q[differs]) <= 1 + apart).all()
    assert (np.abs(steps - np.floor(steps) - 0.5) < apart + 1e-3).all()
    if max(-low, high) <= 30 and share >= 1:
        assert differs.sum() <= 2


def node(operator: str, inputs: str, output: str, **attributes: object) -> Node:
    return helper.make_node(operator, inputs.split(), [output], name=f"{operator}_{output}", **attributes)


def nhwc(value: str, output: str) -> Node:
    return node("Transpose", value, output, perm=TO_NHWC)


SCAN_INPUTS = {"p": (4, 2, 3), "q": (4, 1, 2), "b": (4, 2), "A": (4, 1, 2), "D": (4, 2)}
SCAN = node("EfficientScan2D", f"s {' '.join(SCAN_INPUTS)}", "y", domain=DOMAIN, step=2)
SILU_SCAN = (node("Conv", "x a", "c"), nhwc("c", "t"), node("Sigmoid", "t", "g"), node("Mul", "t g", "s"), SCAN)
GELU_PRODUCT = (node("Conv", "x a", "c"), node("Gelu", "c", "e"), nhwc("e", "t"), node("MatMul", "t m", "y"))


def model_of(nodes: Iterable[Node], outputs: Iterable[str] = ("y",)) -> ir.Model:
    """x (1, 2, 4, 4) to the outputs."""
    rng = np.random.default_rng(0)
    shapes = {"a": (2, 2, 1, 1), "m": (2, 2)} | SCAN_INPUTS
    weights = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    weights["A"] = -np.abs(weights["A"])
    made = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 4, 4])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    imports = [helper.make_opsetid("", 20), helper.make_opsetid(DOMAIN, 1)]
    return ir.from_proto(helper.make_model(made, opset_imports=imports, ir_version=10))


class Everything(dict[str, Range]):
    """The same range for every value."""

    def __missing__(self, name: str) -> Range:
        return Range(-4.0, 4.0)


def quantised(model: ir.Model, scheme: Scheme = ONNXRUNTIME, without: tuple[str, ...] = ()) -> onnx.ModelProto:
    chosen = [layer for layer in find_layers(model) if str(layer.node.name) not in without]
    write_integers(model, chosen, Everything(), scheme)
    return finish_model(model)


def count(proto: onnx.ModelProto) -> Counter[str]:
    return Counter(each.op_type for each in proto.graph.node)


def answers(proto: onnx.ModelProto, *, library: bool) -> list[npt.NDArray[np.float32]]:
    image = np.random.default_rng(1).standard_normal((1, 2, 4, 4), np.float32)
    with OnnxRunner(proto.SerializeToString(), library=library) as runner:
        return list(runner.run(image))


FOUND = {
    "silu before a scan": (SILU_SCAN, TensorProto.FLOAT),
    "gelu before a product": (GELU_PRODUCT, TensorProto.UINT8),
    "its approximation": (
        [*GELU_PRODUCT[:1], node("Gelu", "c", "e", approximate="tanh"), *GELU_PRODUCT[2:]],
        TensorProto.UINT8,
    ),
    "gelu behind the transposition": (
        [GELU_PRODUCT[0], nhwc("c", "t"), node("Gelu", "t", "e"), node("MatMul", "e m", "y")],
        TensorProto.UINT8,
    ),
    "factors the other way round": ([*SILU_SCAN[:3], node("Mul", "g t", "s"), SCAN], TensorProto.FLOAT),
}


@pytest.mark.processor
@pytest.mark.parametrize("case", [name for name, (_, kind) in FOUND.items() if kind])
@pytest.mark.parametrize("library", [False, True])
def test_a_lookup_stands_for_the_function(case: str, library: bool) -> None:
    nodes, kind = FOUND[case]
    found, plain = quantised(model_of(nodes)), quantised(model_of(nodes), WITHOUT)
    kinds = count(found)
    assert kinds["Lookup"] == kinds["Transpose"] == 1
    assert not kinds.keys() & {"Gelu", "Sigmoid", "Mul"}
    entries = next(each.input[1] for each in found.graph.node if each.op_type == "Lookup")
    assert {tensor.name: tensor.data_type for tensor in found.graph.initializer}[entries] == kind
    assert "Lookup" not in count(plain)
    if library and not native.available():
        pytest.skip("no native library")
    (y,), (expected,) = answers(found, library=library), answers(plain, library=library)
    np.testing.assert_allclose(y, expected, atol=1e-5 * float(np.abs(expected).max()))


@pytest.mark.parametrize(("approximate", "function"), [("none", gelu), ("tanh", gelu_tanh)])
def test_each_gelu_has_its_own_table(
    approximate: str, function: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
) -> None:
    """Told apart by steps finer than a network's."""
    model = model_of([*GELU_PRODUCT[:1], node("Gelu", "c", "e", approximate=approximate), *GELU_PRODUCT[2:]])
    fine = Range(-0.2, 0.01)
    write_integers(model, find_layers(model), Everything(e=fine), ONNXRUNTIME)
    entries = model.graph.initializers["c.quantized.table"].const_value
    assert entries is not None
    given_, wanted = ONNXRUNTIME.compute_parameters(Range(-4.0, 4.0)), ONNXRUNTIME.compute_parameters(fine)
    assert np.array_equal(entries.numpy(), make_table(function, given_, wanted))
    assert not np.array_equal(make_table(gelu, given_, wanted), make_table(gelu_tanh, given_, wanted))


NOT_FOUND: dict[str, tuple[Iterable[Node], tuple[str, ...]]] = {
    "another use of the convolution": ([*GELU_PRODUCT, node("Relu", "c", "z")], ("y", "z")),
    "another use of the result": ([*GELU_PRODUCT, node("Relu", "e", "z")], ("y", "z")),
    "another use of the transposed": ([*SILU_SCAN, node("Relu", "t", "z")], ("y", "z")),
    "another product of the transposed": ([*SILU_SCAN[:2], node("Mul", "t t", "z"), *SILU_SCAN[2:]], ("y", "z")),
    "another use of the gate": ([*SILU_SCAN, node("Relu", "g", "z")], ("y", "z")),
    "the transposed is an output": (SILU_SCAN, ("y", "t")),
    "the result is an output": (GELU_PRODUCT, ("y", "e")),
    "channels stay first": (
        [node("Conv", "x a", "c"), node("Gelu", "c", "e"), node("Conv", "e a", "y")],
        ("y",),
    ),
    "another layout": (
        [*GELU_PRODUCT[:2], node("Transpose", "e", "t", perm=[0, 3, 2, 1]), GELU_PRODUCT[3]],
        ("y",),
    ),
    "a gate of another value": (
        [*SILU_SCAN[:2], nhwc("x", "u"), node("Sigmoid", "u", "g"), *SILU_SCAN[3:]],
        ("y",),
    ),
    "a relu before it": ([node("Conv", "x a", "r"), node("Relu", "r", "c"), *GELU_PRODUCT[1:]], ("y",)),
    "no convolution before it": ([node("Gelu", "x", "e"), *GELU_PRODUCT[2:]], ("y",)),
}


@pytest.mark.parametrize("case", NOT_FOUND)
def test_no_lookup_where_the_floats_are_needed(case: str) -> None:
    nodes, outputs = NOT_FOUND[case]
    proto = quantised(model_of(nodes, outputs))
    assert "Lookup" not in count(proto)
    assert proto == quantised(model_of(nodes, outputs), WITHOUT)


@pytest.mark.parametrize(
    ("nodes", "without", "lookups"),
    [
        (GELU_PRODUCT, ("Conv_c",), 0),
        (GELU_PRODUCT, ("MatMul_y",), 0),
        (SILU_SCAN, ("Conv_c",), 0),
        (SILU_SCAN, ("EfficientScan2D_y",), 1),  # floats go into either form of it
    ],
)
def test_layers_that_stay_float(nodes: Iterable[Node], without: tuple[str, ...], lookups: int) -> None:
    assert count(quantised(model_of(nodes), without=without))["Lookup"] == lookups


def test_not_for_a_runtime_without_our_operators() -> None:
    assert "Lookup" not in count(quantised(model_of(GELU_PRODUCT), TENSORRT))


@pytest.fixture(scope="module")
def measured(networks: Callable[..., Path], photographs: list[npt.NDArray[np.uint8]]) -> Measured:
    bundle = Bundle.open(networks())
    samples = read_samples(photographs, bundle.manifest.preprocessing)
    return measure(bundle, samples, QuantizeOptions(), ONNXRUNTIME, lambda stage: None)


def behind(proto: onnx.ModelProto, value: str) -> Iterator[str]:
    """The operators that take a value, behind conversions and changes of layout."""
    for each in proto.graph.node:
        if value in each.input and each.op_type in ("QuantizeLinear", "DequantizeLinear", "Transpose"):
            yield from behind(proto, each.output[0])
        elif value in each.input:
            yield each.op_type


def test_depthwise_convolutions_of_a_network(measured: Measured, networks: Callable[..., Path]) -> None:
    found, plain = (build_integer_graph(measured, measured.chosen, scheme)[0] for scheme in (ONNXRUNTIME, WITHOUT))
    image = Bundle.open(networks()).sample().input
    depthwise = [
        each.output[0]
        for each in found.graph.node
        if each.op_type == "Conv" and any(a.name == "group" and a.i > 1 for a in each.attribute)
    ]
    users = Counter(operator for value in depthwise for operator in behind(found, value))
    assert users["Lookup"] == count(found)["Lookup"] == 4  # two EVSS blocks of two branches
    assert not users.keys() & {"Gelu", "Sigmoid"}
    for library in {False, native.available()}:
        with tempfile.TemporaryDirectory() as folder:
            graphs, scores, reports = [], [], []
            for name, proto in (("found", found), ("plain", plain)):
                path = Path(folder, name)
                path.mkdir()
                model = proto.SerializeToString()
                graphs.append(onnx.load(profile_graph(model, image, path, library=library)[0]))
                reports.append(report_model_integers(model, image, library=library))
                with OnnxRunner(model, library=library) as runner:
                    scores.append(runner.run(image)[0])
        assert count(graphs[0])["Transpose"] <= count(graphs[1])["Transpose"]
        assert Counter(p.operator for p in reports[0].products) == Counter(p.operator for p in reports[1].products)
        assert reports[0].conversions < reports[1].conversions
        np.testing.assert_allclose(*scores, atol=0.005 * float(np.abs(scores[1]).max()))


@settings(max_examples=6)
@given(data=st.data())
def test_any_choice_of_layers(measured: Measured, networks: Callable[..., Path], data: st.DataObject) -> None:
    chosen = data.draw(st.sets(st.sampled_from(measured.chosen)))
    image = Bundle.open(networks()).sample().input
    scores = []
    for scheme in (ONNXRUNTIME, WITHOUT):
        with OnnxRunner(
            build_integer_graph(measured, chosen, scheme)[0].SerializeToString(), library=native.available()
        ) as runner:
            scores.append(runner.run(image)[0])
    np.testing.assert_allclose(*scores, atol=0.005 * float(np.abs(scores[1]).max()))
