"""Where integers begin and end, on small graphs."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxscript import ir

from evm_deploy.calib.onnx.layers import find_layers
from evm_deploy.calib.onnx.placement import find_conversions
from evm_deploy.calib.onnx.scheme import ONNXRUNTIME, TENSORRT, Scheme

Node = onnx.NodeProto


def graph(*nodes: Node) -> ir.Model:
    """x (1, 2, 4, 4) to y, with weights a, b (2, 2, 1, 1) of convolutions and m (2, 2) of products."""
    weights = {"a": np.ones((2, 2, 1, 1)), "b": np.ones((2, 2, 1, 1)), "m": np.ones((2, 2))}
    made = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    return ir.from_proto(helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)]))


def node(operator: str, inputs: str, output: str, **attributes: object) -> Node:
    return helper.make_node(operator, inputs.split(), [output], name=f"{operator}_{output}", **attributes)


def converted(model: ir.Model, scheme: Scheme, without: tuple[str, ...] = ()) -> dict[str, int]:
    """The values that become integers, and how many uses take them."""
    chosen = [layer for layer in find_layers(model) if str(layer.node.name) not in without]
    return {str(each.value.name): len(each.uses) for each in find_conversions(chosen, scheme)}


def test_a_convolution_hands_its_integers_on() -> None:
    model = graph(node("Conv", "x a", "c"), node("Relu", "c", "r"), node("Conv", "r b", "y"))
    assert converted(model, ONNXRUNTIME) == {"x": 1, "r": 1, "y": 0}
    assert converted(model, TENSORRT) == {"x": 1, "r": 1}  # its convolutions may give floats


def test_one_conversion_serves_all_that_take_the_value() -> None:
    """Through a change of layout too."""
    model = graph(
        node("Sigmoid", "x", "s"),
        node("Conv", "s a", "c"),
        node("Transpose", "s", "t", perm=[0, 2, 3, 1]),
        node("MatMul", "t m", "d"),
        node("Transpose", "d", "e", perm=[0, 3, 1, 2]),
        node("Add", "c e", "y"),
    )
    assert converted(model, TENSORRT) == {"s": 2}
    assert converted(model, ONNXRUNTIME) == {"s": 2, "c": 1}


def test_what_takes_floats_keeps_them() -> None:
    """A residual: the value goes on as it was, its integers only into the layer."""
    model = graph(
        node("Sigmoid", "x", "s"),
        node("Transpose", "s", "t", perm=[0, 2, 3, 1]),
        node("MatMul", "t m", "d"),
        node("Add", "t d", "y"),
    )
    assert converted(model, TENSORRT) == {"t": 1}


def test_a_layer_that_stays_float_gets_floats() -> None:
    model = graph(node("Conv", "x a", "c"), node("Conv", "c b", "y"))
    assert converted(model, ONNXRUNTIME, without=("Conv_y",)) == {"x": 1, "c": 1}
    assert converted(model, ONNXRUNTIME, without=("Conv_c", "Conv_y")) == {}


GATE = (
    node("Conv", "x a", "c"),
    node("GlobalAveragePool", "c", "p"),
    node("Conv", "p b", "q"),
    node("Sigmoid", "q", "s"),
    node("Mul", "c s", "m2"),
)


def test_operators_between_integers_are_on_integers() -> None:
    """Squeeze and excite: pool, gate and product, where the runtime has them so."""
    model = graph(*GATE, node("Conv", "m2 b", "y"))
    assert set(converted(model, ONNXRUNTIME)) == {"x", "c", "p", "q", "s", "m2", "y"}
    assert set(converted(model, TENSORRT)) == {"x", "p", "m2"}


@pytest.mark.parametrize("operator", ["Gelu", "Softplus", "Tanh"])
def test_an_operator_that_the_runtime_has_not_on_integers_takes_floats(operator: str) -> None:
    model = graph(node("Conv", "x a", "c"), node(operator, "c", "g"), node("Conv", "g b", "y"))
    assert converted(model, ONNXRUNTIME) == {"x": 1, "c": 1, "g": 1, "y": 0}


def test_a_product_with_a_float_stays_float() -> None:
    model = graph(node("Conv", "x a", "c"), node("Mul", "c x", "m2"), node("Conv", "m2 b", "y"))
    assert converted(model, ONNXRUNTIME) == {"x": 1, "c": 1, "m2": 1, "y": 0}


def test_the_order_is_that_of_the_graph(networks: Callable[..., Path]) -> None:
    """Not of places in memory: a file is the same to the bit whenever it is made, and a cache is found again."""
    proto = onnx.load(networks() / "model.onnx")
    orders = {tuple(converted(ir.from_proto(proto), ONNXRUNTIME)) for _ in range(8)}
    assert len(orders) == 1
