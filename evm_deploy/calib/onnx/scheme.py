"""How each runtime represents integers, a row for each kind of graph. Weights are int8 around 0 in all of them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evm_deploy.calib.onnx.layers import Layer
from evm_deploy.calib.ranges import Range
from evm_deploy.graph.integer_weights import LARGEST, LARGEST_PAIR, add_pairs, arrange_as_multiplied


@dataclass(frozen=True)
class Scheme:
    """The differences between the graphs for the runtimes."""

    activations: type[np.integer]  # uint8, or int8
    symmetric: bool  # activations: whether the zero point is 0
    integer_bias: bool  # the bias is int32 as well, in units of input scale times weight scale
    integer_outputs: bool  # convolutions must give integers too, else the runtime computes them in float
    elementwise: frozenset[str]  # operators without weights that the runtime supports on integers
    integer_scan: bool  # the scan's first projection on integers, as an operator of ours
    lookups: bool  # activation functions of 8-bit values become tables, as an operator of ours

    def supports(self, layer: Layer) -> bool:
        """Whether the runtime supports such a layer on integers."""
        return self.integer_scan or layer.operator is None

    @property
    def pixel_zero(self) -> int:
        """What is subtracted from a pixel to make it one of these integers."""
        return -int(np.iinfo(self.activations).min)

    def compute_parameters(self, found: Range) -> tuple[np.float32, np.integer]:
        """The scale and zero point with which the integers cover the range `found`."""
        info = np.iinfo(self.activations)
        if self.symmetric:
            if found == Range(info.min, info.max):  # pixels: their lowest has no counterpart above
                return np.float32(1), self.activations(0)
            return np.float32(max(abs(found.low), abs(found.high)) / info.max), self.activations(0)
        low, high = min(found.low, 0.0), max(found.high, 0.0)
        scale = np.float32((high - low) / (info.max - info.min))
        zero = np.clip(np.round(info.min - low / np.float64(scale)), info.min, info.max)
        return scale, self.activations(zero)


# onnxruntime on x86 and ARM.
ONNXRUNTIME = Scheme(
    np.uint8,
    symmetric=False,
    integer_bias=True,
    integer_outputs=True,
    elementwise=frozenset({"Mul", "Sigmoid", "GlobalAveragePool"}),
    integer_scan=True,
    lookups=True,
)
# TensorRT takes symmetric int8 only, and float biases.
TENSORRT = Scheme(
    np.int8,
    symmetric=True,
    integer_bias=False,
    integer_outputs=False,
    elementwise=frozenset(),
    integer_scan=False,
    lookups=False,
)


def quantise_weights(
    weights: npt.NDArray[np.float32], axis: int | tuple[int, ...], least: npt.NDArray[np.float32] | float = 0.0
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Integers of the same shape, symmetric, and their scales, one for each index along `axis` and at least `least`.

    The scales keep the sum of any two neighbours that a kernel adds first within LARGEST_PAIR, so that every processor
    gives the same sums. This costs a tenth of a bit.
    """
    axes = (axis,) if isinstance(axis, int) else axis
    rows, pairs = arrange_as_multiplied(weights, axes), add_pairs(weights, axes)
    # half a step of rounding for each of the two
    largest = np.maximum(np.abs(rows).max(-1) / LARGEST, np.abs(pairs).max(-1) / (LARGEST_PAIR - 1))
    scales = np.maximum(np.where(largest > 0, largest, 1), least).astype(np.float32)
    along = scales.reshape([weights.shape[i] if i in axes else 1 for i in range(weights.ndim)])
    return np.clip(np.round(weights / along), -LARGEST, LARGEST).astype(np.int8), scales
