"""Engines on integers: which products of a graph are to be, and what the builder makes of each way to ask for it."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from evm_deploy.errors import CheckFailed, InputError
from evm_deploy.exporters.tensorrt import build, integer_products
from evm_deploy.exporters.tensorrt.layers import EngineLayer, count_layers
from evm_deploy.exporters.tensorrt.plugins.operators import mark_scans
from evm_deploy.exporters.tensorrt.precision import check_integers
from evm_deploy.exporters.tensorrt.shapes import Profile

CONV = EngineLayer("c", "correlation", ("int8",), ("float32",), ("conv", "conv_weight_dq"))
PAIR = EngineLayer("g", "gemm", ("int8",), ("float32",), ("linear", "linear_1"))
SCAN = EngineLayer("s", "gemm", ("float32", "float32"), ("float32",), ("node_of_matmul | scan (EfficientScan2D)",))
STEP = EngineLayer("r", "kgen", ("float32",), ("float32",), ("mul | run (SelectiveScan) | scan (EfficientScan2D)",))
QUANTISER = EngineLayer("q", "kgen", ("float32",), ("int8",), (*STEP.nodes, "x.quantize"))
ENGINE = (QUANTISER, CONV, PAIR, SCAN, STEP)
PRODUCTS = {"conv", "linear", "linear_1"}
INPUT = (1, 8, 8, 8)


def changed(layer: EngineLayer, *, kind: str | None = None, type: str | None = None) -> EngineLayer:
    return EngineLayer(layer.name, kind or layer.kind, (type,) if type else layer.inputs, layer.outputs, layer.nodes)


def test_every_product_on_int8_and_no_scan_passes() -> None:
    check_integers(ENGINE, PRODUCTS, where="the engine")
    check_integers((changed(CONV, kind="CaskConvolution"), PAIR), PRODUCTS, where="the engine")


@pytest.mark.parametrize(
    ("engine", "complaint"),
    [
        ((CONV, changed(PAIR, type="float32")), r"2 of 3 products are not on int8, the first is linear \(gemm\)"),
        ((changed(CONV, kind="runtime_fusion"), PAIR), r"1 of 3 .* the first is conv \(runtime_fusion\)"),
        ((changed(CONV, kind="kgen"), PAIR), r"1 of 3 .* the first is conv \(kgen\)"),
        ((PAIR,), "1 of 3 products are not on int8, the first is conv"),
        ((*ENGINE[:3], changed(SCAN, type="int8")), r"the scan must be float32, but s \(gemm\) is int8"),
        ((*ENGINE[:4], changed(STEP, type="int8")), r"the scan must be float32, but r \(kgen\) is int8"),
    ],
)
def test_what_is_not_on_integers(engine: tuple[EngineLayer, ...], complaint: str) -> None:
    with pytest.raises(CheckFailed, match=complaint):
        check_integers(engine, PRODUCTS, where="the engine")


def test_integers_show_in_the_summary() -> None:
    assert count_layers(ENGINE[:3]) == {"correlation int8->float32": 1, "gemm int8->float32": 1, "kgen int8": 1}


class Graph:
    """A graph of the input `image` (1, 8, 8, 8) that grows node by node; the output is the last one's."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Any] = {}

    def add(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    def quantised(self, x: str, zero: int = 0) -> str:
        self.constants |= {f"{x}_s": np.float32(0.05), f"{x}_z": np.int8(zero)}
        return self.dequantised(self.add("QuantizeLinear", [x, f"{x}_s", f"{x}_z"], f"{x}_q"), f"{x}_s", f"{x}_z")

    def dequantised(self, x: str, scale: str, zero: str, **attributes: Any) -> str:
        return self.add("DequantizeLinear", [x, scale, zero], f"{x}_dq", **attributes)

    def weight(self, name: str, shape: tuple[int, ...], axis: int) -> str:
        scales = np.full(shape[axis], 0.01, np.float32)
        numbers = np.arange(np.prod(shape)).reshape(shape) % 11 - 5
        self.constants |= {name: numbers.astype(np.int8), f"{name}_s": scales, f"{name}_z": scales.astype(np.int8)}
        return self.dequantised(name, f"{name}_s", f"{name}_z", axis=axis)

    def floats(self, name: str, *shape: int) -> str:
        self.constants[name] = np.ones(shape, np.float32)
        return name

    def serialised(self) -> bytes:
        ends = [helper.make_tensor_value_info("image", TensorProto.FLOAT, INPUT)]
        outputs = [helper.make_tensor_value_info(self.nodes[-1].output[0], TensorProto.FLOAT, None)]
        constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in self.constants.items()]
        graph = helper.make_graph(self.nodes, "g", ends, outputs, constants)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        data: bytes = proto.SerializeToString()
        return data


def convolution(*, weight: bool = True, activation: bool = True, zero: int = 0) -> Graph:
    graph = Graph()
    x = graph.quantised("image", zero) if activation else "image"
    w = graph.weight("w", (8, 8, 1, 1), 0) if weight else graph.floats("w", 8, 8, 1, 1)
    graph.add("Conv", [x, w, graph.floats("b", 8)], "the_conv")
    return graph


def test_a_product_is_asked_for_by_both_of_its_sides() -> None:
    graph = convolution()
    x = graph.add("Transpose", [graph.quantised("the_conv_out")], "turn", perm=[0, 2, 3, 1])
    graph.add("MatMul", [x, graph.weight("v", (8, 8), 1)], "the_product")
    graph.add("MatMul", ["the_product_out", graph.floats("u", 8, 8)], "in_float")
    assert integer_products.find_integer_products(graph.serialised()) == {"the_conv", "the_product"}


def test_a_node_without_a_name_is_found_in_the_engine() -> None:
    graph = convolution()
    graph.nodes[-1].name = ""
    assert integer_products.find_integer_products(graph.serialised()) == {"node_of_the_conv_out"}
    assert any("node_of_the_conv_out" in layer.nodes for layer in built(graph.serialised()).layers)


@pytest.mark.parametrize("side", ["weight", "activation"])
def test_one_side_alone_asks_for_nothing(side: str) -> None:
    graph = convolution(**{side: False}).serialised()
    with pytest.raises(CheckFailed, match="multiplies nothing on integers"):
        integer_products.find_integer_products(graph)
    with pytest.raises(CheckFailed, match="multiplies nothing on integers"):
        built(graph)


def built(graph: bytes) -> build.Engine:
    trt = pytest.importorskip("tensorrt_rtx")
    return build.build_engine(
        trt, build.EngineRequest(graph, "int8", Profile("image", INPUT, INPUT, INPUT), ("8.6",), 0)
    )


def test_products_by_output_channel_are_built_on_integers() -> None:
    graph = convolution()
    graph.add("Relu", ["the_conv_out"], "relu")
    graph.add("MatMul", [graph.quantised("relu_out"), graph.weight("v", (8, 16), 1)], "the_product")
    engine = built(graph.serialised())
    assert sum("int8->" in kind for kind in count_layers(engine.layers)) == 2
    assert {"correlation int8->float32", "gemm int8->float32"} <= count_layers(engine.layers).keys()


def test_scales_along_the_summed_axis_fail_the_check() -> None:
    """The library takes int8 there, and makes floats of it before it multiplies."""
    graph = Graph()
    graph.add("MatMul", [graph.quantised("image"), graph.weight("w", (8, 16), 0)], "the_product")
    with pytest.raises(CheckFailed, match=r"engine.*1 of 1 products .* the_product \(runtime_fusion\)"):
        built(graph.serialised())


def test_the_library_refuses_a_zero_point() -> None:
    with pytest.raises(InputError, match=r"Non-zero zero point is not supported.*QuantizeLinear"):
        built(convolution(zero=3).serialised())


def test_a_graph_is_marked_once() -> None:
    scan = helper.make_node("EfficientScan2D", ["image"], ["y"], domain="evm")
    proto = helper.make_model(helper.make_graph([scan], "g", [], []))
    assert mark_scans(proto) == mark_scans(proto) == 1
    names = [attribute.name for attribute in proto.graph.node[0].attribute]
    assert len(names) == len(set(names)) == 3
