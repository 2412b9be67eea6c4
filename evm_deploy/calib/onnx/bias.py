"""Corrects biases: subtracts the shift that rounded weights cause in the mean of each output channel.

(Nagel et al., arXiv 1906.04721, section 4.2, with means measured on the calibration data.)
"""

import numpy as np
import numpy.typing as npt
from onnxscript import ir

from evm_deploy.calib.onnx.layers import Layer, read_constant
from evm_deploy.calib.onnx.scheme import quantise_weights

Floats = npt.NDArray[np.float64]


def correct_bias(layer: Layer, means: Floats) -> None:
    """Corrects the bias of a layer in place, if it has one. means: (C,), the mean of each input channel."""
    use, bias = layer.bias_use, layer.bias
    if use is None or bias is None:
        return
    numbers = (read_constant(bias).astype(np.float64) - compute_shift(layer, means)).astype(np.float32)
    new = ir.Value(name=f"{bias.name}.corrected.{layer.node.name}", shape=bias.shape, type=bias.type)
    new.const_value = ir.tensor(numbers, name=new.name)
    assert layer.node.graph is not None
    layer.node.graph.register_initializer(new)
    node, index = use
    node.replace_input_with(index, new)


def compute_shift(layer: Layer, means: Floats) -> Floats:
    """How much the rounded weights shift the mean of each output channel (O,), apart from the image's border."""
    weights, axis = layer.weights, layer.kind.out_axis
    integers, scales = quantise_weights(weights, axis)
    along = [-1 if i == axis else 1 for i in range(weights.ndim)]
    error = integers * scales.reshape(along).astype(np.float64) - weights
    if layer.depthwise:
        return np.asarray(error.reshape(len(means), -1).sum(1) * means)
    by_output = np.moveaxis(error, axis, 0)  # (O, I, ...)
    return np.asarray(by_output.reshape(*by_output.shape[:2], -1).sum(2) @ means)
