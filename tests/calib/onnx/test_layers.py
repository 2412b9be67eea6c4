"""Which nodes of a graph are layers that may run on integers."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxscript import ir

from evm_deploy.calib.onnx.layers import find_layers, find_magnified


@pytest.mark.parametrize(("weight", "found"), [((8, 6), ["node_product"]), ((4, 8, 6), [])])
def test_products_with_one_matrix_for_each_direction_stay_floats(weight: tuple[int, ...], found: list[str]) -> None:
    """onnxruntime refuses to multiply integers with a batch of matrices by scales of their columns."""
    constant = numpy_helper.from_array(np.ones(weight, np.float32), "w")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 4, 5, 8))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="node_product")], "g", [x], [y], [constant]
    )
    assert [layer.node.name for layer in find_layers(read_graph(graph))] == found


def read_graph(graph: onnx.GraphProto) -> ir.Model:
    return ir.serde.deserialize_model(helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)]))


@pytest.mark.parametrize(
    ("nodes", "found"),
    [
        ("Transpose LayerNormalization Conv", ["first"]),
        ("LayerNormalization", ["first"]),
        ("Relu LayerNormalization", []),  # the range of what follows is another
        ("Conv LayerNormalization", []),
        ("Transpose", []),
    ],
)
def test_a_norm_magnifies_what_the_convolution_of_the_image_loses(nodes: str, found: list[str]) -> None:
    constants = [numpy_helper.from_array(np.ones((3, 3, 1, 1), np.float32), "w")]
    constants.append(numpy_helper.from_array(np.ones(3, np.float32), "scale"))
    given = {"Conv": ["w"], "LayerNormalization": ["scale"]}
    made = [helper.make_node("Conv", ["v0", "w"], ["v1"], name="first")]
    for i, kind in enumerate(nodes.split(), 1):
        made.append(helper.make_node(kind, [f"v{i}", *given.get(kind, [])], [f"v{i + 1}"], name=f"{kind}{i}"))
    x = helper.make_tensor_value_info("v0", TensorProto.FLOAT, (1, 3, 3, 3))
    y = helper.make_tensor_value_info(f"v{len(made)}", TensorProto.FLOAT, None)
    layers = find_layers(read_graph(helper.make_graph(made, "g", [x], [y], constants)))
    assert [layer.node.name for layer in find_magnified(layers)] == found
