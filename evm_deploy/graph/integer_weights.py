"""The bound on integer weights within which every processor gives the same sums, and the check that a graph keeps it.

x86 processors with AVX2 and no VNNI add the products of two neighbouring inputs, uint8 times int8, in 16 bits, and
saturate: 255 * 128 still fits, so two neighbouring weights of the same sign may be 128 together and no more.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import onnx

from evm_deploy.operators import find_operator

LARGEST = 127  # of a weight: -128 has no counterpart
LARGEST_PAIR = 128


def add_pairs(weights: npt.NDArray[np.generic], axes: tuple[int, ...]) -> npt.NDArray[np.generic]:
    """The sums of the weights that a kernel multiplies next to each other: one row of them for each index of `axes`."""
    rows = arrange_as_multiplied(weights, axes)
    padded = np.pad(rows, [(0, 0)] * (rows.ndim - 1) + [(0, rows.shape[-1] % 2)])
    sums: npt.NDArray[np.generic] = np.add.reduce(padded.reshape(*rows.shape[:-1], -1, 2), -1)
    return sums


def arrange_as_multiplied(weights: npt.NDArray[np.generic], axes: tuple[int, ...]) -> npt.NDArray[np.generic]:
    """A row of weights for each index of `axes`, in the order in which a kernel runs over the inputs of one output: of
    a convolution, channels within pixels.
    """
    inner = tuple(i for i in range(weights.ndim) if i not in axes)
    inner = inner if len(inner) < 3 else (*inner[1:], inner[0])
    rows: npt.NDArray[np.generic] = weights.transpose(*axes, *inner).reshape(*(weights.shape[i] for i in axes), -1)
    return rows


def find_oversized_pairs(proto: onnx.ModelProto) -> list[str]:
    """The names of the integer weights in which two neighbours exceed LARGEST_PAIR together."""
    return [name for name, weights, axes in _integer_weights(proto) if _largest_sum(weights, axes) > LARGEST_PAIR]


def _largest_sum(weights: npt.NDArray[np.int8], axes: tuple[int, ...]) -> int:
    return int(np.abs(add_pairs(weights.astype(np.int32), axes)).max(initial=0))


def _integer_weights(proto: onnx.ModelProto) -> Iterator[tuple[str, npt.NDArray[np.int8], tuple[int, ...]]]:
    """Name, numbers and axes of the scales of every constant int8 weight of a product."""
    constants = {
        tensor.name: tensor
        for tensor in proto.graph.initializer
        if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) > 1
    }
    for node in proto.graph.node:
        operator = find_operator(node)
        if node.domain == "" and node.op_type == "DequantizeLinear":
            axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
            place, axes = 0, [axis]
        elif operator is not None and operator.weight is not None and operator.weight.integer:
            place, axes = operator.place(operator.weight.input), list(operator.weight.scale_axes)
        else:
            continue
        tensor = constants.get(node.input[place]) if len(node.input) > place else None
        if tensor is not None and all(-len(tensor.dims) <= axis < len(tensor.dims) for axis in axes):
            yield tensor.name, onnx.numpy_helper.to_array(tensor), tuple(axis % len(tensor.dims) for axis in axes)
