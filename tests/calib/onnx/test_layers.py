"""Which nodes of a graph are layers that may run on integers."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxscript import ir

from evm_deploy.calib.onnx.layers import find_layers


@pytest.mark.parametrize(("weight", "found"), [((8, 6), ["node_product"]), ((4, 8, 6), [])])
def test_products_with_one_matrix_for_each_direction_stay_floats(weight: tuple[int, ...], found: list[str]) -> None:
    """onnxruntime refuses to multiply integers with a batch of matrices by scales of their columns."""
    constant = numpy_helper.from_array(np.ones(weight, np.float32), "w")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 4, 5, 8))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="node_product")], "g", [x], [y], [constant]
    )
    model = ir.serde.deserialize_model(helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)]))
    assert [layer.node.name for layer in find_layers(model)] == found
