"""What rounding the weights adds to the mean of each output channel, taken out of the bias again.

(Nagel et al., arXiv 1906.04721, section 4.2, with means measured on the calibration data.)
"""

import numpy as np
import numpy.typing as npt
from onnxscript import ir

from evm_deploy.calib.onnx.layers import Layer, read_constant
from evm_deploy.calib.onnx.scheme import quantise_weights

Floats = npt.NDArray[np.float64]


def correct_bias(layer: Layer, means: Floats) -> None:
    """Changes the bias of a layer that has one, in place. means: of each channel of its input, (C,)."""
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
    """How much the rounded weights move the mean of each output channel, away from the image's border: (O,)."""
    weights, axis = layer.weights, layer.kind.out_axis
    integers, scales = quantise_weights(weights, axis)
    along = [-1 if i == axis else 1 for i in range(weights.ndim)]
    error = integers * scales.reshape(along).astype(np.float64) - weights
    if layer.depthwise:
        return np.asarray(error.reshape(len(means), -1).sum(1) * means)
    by_output = np.moveaxis(error, axis, 0)  # (O, I, ...)
    return np.asarray(by_output.reshape(*by_output.shape[:2], -1).sum(2) @ means)
