"""The bound within which every processor adds integer products exactly, seen from both sides."""

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import helper

from evm_deploy.graph.integer_weights import find_oversized_pairs

# A weight's shape, the axis of its scales, and two places that a kernel multiplies next to each other.
LAYERS = {
    "Conv": ((4, 6, 3, 3), 0, (1, 2, 1, 1), (1, 3, 1, 1)),
    "depthwise Conv": ((4, 1, 3, 3), 0, (2, 0, 0, 0), (2, 0, 0, 1)),
    "MatMul": ((7, 4), 1, (4, 3), (5, 3)),
    "Gemm": ((4, 8), 0, (0, 6), (0, 7)),
}


def model_of(weights: npt.NDArray[np.int8], axis: int) -> onnx.ModelProto:
    """A graph that dequantises the weights for a product."""
    tensors = [
        onnx.numpy_helper.from_array(weights, "weights"),
        onnx.numpy_helper.from_array(np.ones(weights.shape[axis], np.float32), "scale"),
    ]
    node = helper.make_node("DequantizeLinear", ["weights", "scale"], ["y"], axis=axis)
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    return helper.make_model(helper.make_graph([node], "weights", [], [y], tensors))


def scan_of(weights: npt.NDArray[np.int8]) -> onnx.ModelProto:
    """A graph with a scan whose first projection is on integers."""
    names = ["x", "x_scale", "x_zero_point", "weights", "x_proj_scale", "dt_proj", "dt_bias", "A", "D"]
    node = helper.make_node("QuantizedEfficientScan2D", names, ["y"], domain="evm", step=2)
    tensor = onnx.numpy_helper.from_array(weights, "weights")
    return helper.make_model(helper.make_graph([node], "scan", [], [], [tensor]))


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("pair", [(64, 64), (127, 1), (-127, -1), (127, -127)])
def test_neighbours_of_128_together_are_exact(layer: str, pair: tuple[int, int]) -> None:
    shape, axis, first, second = LAYERS[layer]
    weights = np.zeros(shape, np.int8)
    weights[first], weights[second] = pair
    assert find_oversized_pairs(model_of(weights, axis)) == []


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("pair", [(65, 64), (127, 2), (-127, -2)])
def test_neighbours_of_129_together_are_found(layer: str, pair: tuple[int, int]) -> None:
    shape, axis, first, second = LAYERS[layer]
    weights = np.zeros(shape, np.int8)
    weights[first], weights[second] = pair
    assert find_oversized_pairs(model_of(weights, axis)) == ["weights"]


def test_neighbours_are_those_that_are_multiplied_together() -> None:
    """Of a convolution the channels of one pixel, not the pixels of one channel; and pairs begin at even places."""
    weights = np.zeros((4, 6, 3, 3), np.int8)
    weights[0, 1:3] = weights[1, 0] = 127  # channels 1 and 2 are of two pairs; pixels are no neighbours
    assert find_oversized_pairs(model_of(weights, 0)) == []


@pytest.mark.parametrize(("value", "found"), [(64, []), (65, ["weights"])])
def test_the_projection_of_a_scan(value: int, found: list[str]) -> None:
    weights = np.zeros((4, 6, 9), np.int8)  # (K, D, R+2N)
    weights[3, 4:6, 8] = value
    assert find_oversized_pairs(scan_of(weights)) == found


@pytest.mark.parametrize("axis", [-5, 2, 2**40])
def test_an_axis_that_the_weight_does_not_have(axis: int) -> None:
    model = model_of(np.zeros((3, 2), np.int8), 0)
    model.graph.node[0].attribute[0].i = axis
    assert find_oversized_pairs(model) == []
