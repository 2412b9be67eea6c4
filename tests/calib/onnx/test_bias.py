"""The mean that rounded weights add to an output, against the layer itself in numpy."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from onnxscript import ir

from evm_deploy.calib.onnx.bias import correct_bias
from evm_deploy.calib.onnx.layers import Layer, find_layers, read_constant
from evm_deploy.calib.onnx.scheme import quantise_weights


def layer_of(weights: np.ndarray, bias: np.ndarray, operator: str, **attributes: Any) -> Layer:
    rank = weights.ndim
    nodes = [
        helper.make_node(operator, ["x", "w", "b"][: 2 if operator == "MatMul" else 3], ["v"], name="n", **attributes)
    ]
    nodes += [helper.make_node("Add", ["v", "b"], ["y"])] if operator == "MatMul" else []
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None] * rank)],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(bias, "b")],
    )
    (layer,) = find_layers(ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])))
    return layer


@pytest.mark.parametrize("kind", ["conv", "depthwise", "product", "gemm"])
def test_the_corrected_layer_has_the_mean_of_the_float_one(kind: str) -> None:
    rng = np.random.default_rng(0)
    C = 6
    shape = {"conv": (4, C, 3, 3), "depthwise": (C, 1, 3, 3), "product": (C, 4), "gemm": (4, C)}[kind]
    weights = rng.standard_normal(shape).astype(np.float32)
    bias = rng.standard_normal(C if kind == "depthwise" else 4).astype(np.float32)
    operator = {"product": "MatMul", "gemm": "Gemm"}.get(kind, "Conv")
    attributes = {"gemm": {"transB": 1}, "depthwise": {"group": C}}.get(kind, {})
    layer = layer_of(weights, bias, operator, **attributes)
    means = rng.standard_normal(C) + 2
    integers, scales = quantise_weights(weights, layer.kind.out_axis)
    rounded = integers * scales.reshape([-1 if i == layer.kind.out_axis else 1 for i in range(weights.ndim)])

    correct_bias(layer, means)
    assert layer.bias is not None
    corrected = read_constant(layer.bias)

    def apply(w: np.ndarray, b: np.ndarray) -> np.ndarray:
        """On a constant input of these means, without padding: what the layer gives on average."""
        w, b = torch.from_numpy(w.astype(np.float64)), torch.from_numpy(b.astype(np.float64))
        if operator == "Conv":
            x = torch.from_numpy(means)[None, :, None, None].expand(1, C, 3, 3)
            return F.conv2d(x, w, b, groups=C if kind == "depthwise" else 1).flatten().numpy()
        return np.asarray(means @ (w if operator == "MatMul" else w.T).numpy() + b.numpy())

    assert np.abs(apply(rounded, bias) - apply(weights, bias)).max() > 1e-3
    assert np.allclose(apply(rounded, corrected), apply(weights, bias), atol=1e-5)


def test_a_product_without_a_bias_is_left_alone() -> None:
    weights = np.ones((3, 2), np.float32)
    layer = layer_of(weights, np.ones(2, np.float32), "MatMul")
    add = (
        layer.node.outputs[0].uses()[0][0]
        if isinstance(layer.node.outputs[0].uses(), tuple)
        else next(iter(layer.node.outputs[0].uses()))[0]
    )
    add.replace_input_with(1, layer.node.outputs[0])  # no constant any more
    assert layer.bias is None
    correct_bias(layer, np.ones(3))
