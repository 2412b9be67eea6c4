"""Writes the integers into a graph: conversions of values, weights and biases, and the scan's own operator."""

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
from onnxscript import ir

from evm_deploy.calib.onnx.layers import Layer, read_constant
from evm_deploy.calib.onnx.lookups import write_lookups
from evm_deploy.calib.onnx.placement import Conversion, find_conversions
from evm_deploy.calib.onnx.rewrites import add_constant, replace_node
from evm_deploy.calib.onnx.scheme import Scheme, quantise_weights
from evm_deploy.calib.ranges import Range
from evm_deploy.operators import DOMAIN

Parameters = tuple[np.float32, np.integer]  # scale and zero point


def write_integers(
    model: ir.Model, chosen: Iterable[Layer], ranges: Mapping[str, Range], scheme: Scheme
) -> dict[str, Parameters]:
    """Converts the chosen layers to integers in place. Returns the scale and zero point of each converted value."""
    graph, chosen = model.graph, list(chosen)
    writer = _GraphWriter(graph, scheme)
    parameters = {}
    for conversion in find_conversions(chosen, scheme):
        name = str(conversion.value.name)
        parameters[name] = scheme.compute_parameters(ranges[name])
        writer.convert(conversion, parameters[name])
    for layer in chosen:
        if layer.operator is not None:
            parameters[str(layer.input.name)] = scheme.compute_parameters(ranges[str(layer.input.name)])
            writer.write_scan(layer, parameters[str(layer.input.name)])
        else:
            writer.write_weights(layer)
    if scheme.lookups:
        write_lookups(graph)
    graph.sort()
    return parameters


def list_converted_values(chosen: Iterable[Layer], scheme: Scheme) -> list[str]:
    """The names of the values whose ranges `write_integers` needs."""
    chosen = list(chosen)
    names = [str(conversion.value.name) for conversion in find_conversions(chosen, scheme)]
    scans = [str(layer.input.name) for layer in chosen if layer.operator is not None and scheme.supports(layer)]
    return list(dict.fromkeys(names + scans))


class _GraphWriter:
    """Adds nodes and constants to one graph, constants of one name only once."""

    def __init__(self, graph: ir.Graph, scheme: Scheme) -> None:
        self.graph, self.scheme = graph, scheme
        self.integers: dict[tuple[str, bytes], ir.Value] = {}  # of constants, by their names and numbers

    def add_constant(self, name: str, numbers: npt.NDArray[np.generic] | np.generic) -> ir.Value:
        there = self.graph.initializers.get(name)
        return add_constant(self.graph, name, numbers) if there is None else there

    def convert(self, conversion: Conversion, parameters: Parameters) -> None:
        """Inserts QuantizeLinear and DequantizeLinear between a value and its uses that take integers."""
        value = conversion.value
        if self._is_pixels(value):
            self._take_pixels(value)
            return
        given = [self.add_constant(f"{value.name}.{part}", number) for part, number in _name_parameters(parameters)]
        integer = ir.node("QuantizeLinear", [value, *given], name=f"{value.name}.quantize")
        float_ = ir.node("DequantizeLinear", [integer.outputs[0], *given], name=f"{value.name}.dequantize")
        integer.outputs[0].name, float_.outputs[0].name = f"{value.name}.quantized", f"{value.name}.dequantized"
        float_.outputs[0].shape, float_.outputs[0].type = value.shape, value.type
        producer = value.producer()
        for node, index in conversion.uses:
            node.replace_input_with(index, float_.outputs[0])
        if producer is None:
            self.graph.insert_before(self.graph[0], [integer, float_])
        else:
            self.graph.insert_after(producer, [integer, float_])

    def _is_pixels(self, value: ir.Value) -> bool:
        """Whether the value is a cast of the uint8 image, and the scheme uses uint8 activations."""
        node = value.producer()
        image = node.inputs[0] if node is not None and node.op_type == "Cast" else None
        return image is not None and image.dtype == ir.DataType.UINT8 and self.scheme.activations == np.uint8

    def _take_pixels(self, value: ir.Value) -> None:
        """Replaces the cast of the pixels, which are integers already, by a DequantizeLinear with a scale of 1."""
        cast = value.producer()
        assert cast is not None
        given = [self.add_constant("pixel.scale", np.float32(1)), self.add_constant("pixel.zero_point", np.uint8(0))]
        replace_node(
            self.graph, cast, ir.node("DequantizeLinear", [cast.inputs[0], *given], name=f"{value.name}.dequantize")
        )

    def write_weights(self, layer: Layer) -> None:
        """Writes the weight and the bias as integers with a scale for each output channel."""
        node, axis = layer.node, layer.kind.out_axis
        use, bias = layer.bias_use, layer.bias if self.scheme.integer_bias else None
        scale_in = _find_scale(layer.input)
        # a channel with next to no weights would need a bias beyond int32
        least = np.abs(read_constant(bias)) / (np.float32(2**30) * scale_in) if bias is not None else np.float32(0)
        integers, scales = quantise_weights(layer.weights, axis, least)
        node.replace_input_with(1, self._dequantise(layer.weight, integers, scales, axis, node))
        if use is not None and bias is not None:
            unit = (scales * scale_in).astype(np.float32)
            numbers = np.round(read_constant(bias) / unit).astype(np.int32)
            use[0].replace_input_with(use[1], self._dequantise(bias, numbers, unit, 0, use[0]))

    def write_scan(self, layer: Layer, parameters: Parameters) -> None:
        """Replaces a scan by the one whose first projection uses integers."""
        node, name = layer.node, str(layer.weight.name)
        weight = layer.operator.weight if layer.operator is not None else None
        assert weight is not None
        assert weight.quantised is not None
        integers, scales = quantise_weights(layer.weights, weight.scale_axes)
        given = [self.add_constant(f"{layer.input.name}.{part}", n) for part, n in _name_parameters(parameters)]
        inputs = [
            layer.input,
            *given,
            self.add_constant(f"{name}.quantized", integers),
            self.add_constant(f"{name}.scale", scales),
            *node.inputs[2:],
        ]
        made = ir.node(weight.quantised.name, inputs, node.attributes, domain=DOMAIN, name=node.name)
        replace_node(self.graph, node, made)

    def _dequantise(
        self,
        value: ir.Value,
        integers: npt.NDArray[np.generic],
        scales: npt.NDArray[np.float32],
        axis: int,
        node: ir.Node,
    ) -> ir.Value:
        """Stores a constant as integers, and returns the value dequantised for `node`."""
        name = str(value.name) if len(list(value.uses())) == 1 else f"{value.name}.of.{node.name}"
        key = str(value.name), integers.tobytes()  # nodes that share a weight share its integers
        if key not in self.integers:
            self.integers[key] = self.add_constant(f"{name}.quantized", integers)
        given = [
            self.integers[key],
            self.add_constant(f"{name}.scale", scales),
            self.add_constant(f"{name}.zero_point", np.zeros(scales.shape, integers.dtype)),
        ]
        made = ir.node("DequantizeLinear", given, {"axis": axis}, name=f"{name}.dequantize")
        made.outputs[0].name = f"{name}.dequantized"
        self.graph.insert_before(node, made)
        return made.outputs[0]


def _name_parameters(parameters: Parameters) -> list[tuple[str, np.generic]]:
    return [("scale", parameters[0]), ("zero_point", parameters[1])]


def _find_scale(value: ir.Value) -> float:
    """The scale of the integers from which the value was made."""
    node = value.producer()
    while node is not None and node.op_type != "DequantizeLinear":
        before = node.inputs[0]
        assert before is not None
        node = before.producer()
    assert node is not None
    scale = node.inputs[1]
    assert scale is not None
    return float(read_constant(scale))
