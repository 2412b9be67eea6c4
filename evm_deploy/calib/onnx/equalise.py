"""Rescales the channels of values, so that one range suits all channels of a value.

The function of the network stays the same. A value v with channels c becomes v_c / s_c: the norm or layer that
produces it divides, and every layer that uses it multiplies (Nagel et al., arXiv 1906.04721; SmoothQuant, arXiv
2211.10438).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from onnxscript import ir

from evm_deploy.calib.onnx.layers import Layer, read_constant
from evm_deploy.calib.onnx.placement import follow_relu
from evm_deploy.operators import find_operator

Floats = npt.NDArray[np.float64]
# Operators that let the scale of a channel pass: f(v / s) = f(v) / s for s > 0.
PASSING = frozenset({"Transpose", "Relu", "GlobalAveragePool"})
# How strong the scales are: 0 leaves everything as it is, 1 gives every channel the same range.
STRENGTHS = (0.25, 0.5, 0.75, 1.0)
MOST = 1e3  # largest ratio between the scales of a value: a dead channel has almost no range


class ChannelStatistics(Protocol):
    """The statistics that are needed for each channel of a value."""

    @property
    def channel_min(self) -> Floats: ...

    @property
    def channel_max(self) -> Floats: ...

    @property
    def channel_mean_square(self) -> Floats: ...


@dataclass(frozen=True)
class Group:
    """A value whose channels can be scaled, the node that produces it, and the layers that use it."""

    value: ir.Value
    maker: ir.Node
    takers: tuple[Layer, ...]
    channel_axis: int

    @property
    def measured(self) -> ir.Value:
        """The value whose statistics are used: the one that becomes integers."""
        return follow_relu(self.value)


def find_groups(found: list[Layer]) -> list[Group]:
    """Finds every value that a norm or layer can divide, and whose users are all layers that can multiply it back."""
    by_node = {layer.node: layer for layer in found}
    made: dict[ir.Value, Group] = {}
    for layer in found:
        value: ir.Value | None = layer.input
        while value is not None and value not in made:
            maker = value.producer()
            if maker is not None and (_is_norm(maker) or _can_divide(maker, by_node)):
                takers = _find_takers(value, by_node)
                if takers:
                    axis = 1 if maker.op_type == "Conv" else -1
                    made[value] = Group(value, maker, tuple(dict.fromkeys(takers)), axis)
                break
            value = maker.inputs[0] if maker is not None and _lets_scale_pass(maker) else None
    return list(made.values())


def equalise(group: Group, statistics: ChannelStatistics, chosen: set[str]) -> float:
    """Rescales one group in place, with the strength that gives the chosen layers the smallest expected error.

    Returns the strength; 0: nothing was changed.
    """
    takers = [layer for layer in group.takers if layer.name in chosen]
    reach = np.maximum(np.abs(statistics.channel_min), np.abs(statistics.channel_max))
    if not takers or not reach.max() > 0:
        return 0.0
    square = statistics.channel_mean_square
    errors = {0.0: _estimate_error(takers, reach, square, np.ones_like(reach))}
    scales = {strength: _compute_scales(takers, reach, strength) for strength in STRENGTHS}
    errors |= {strength: _estimate_error(takers, reach, square, scale) for strength, scale in scales.items()}
    best = min(errors, key=lambda strength: errors[strength])
    if best > 0:
        _rescale(group, scales[best])
    return best


def _compute_scales(takers: list[Layer], reach: Floats, strength: float) -> Floats:
    """The scales of SmoothQuant, reach^a / weight^(1 - a), with a geometric mean of 1."""
    weight = np.max([_measure_reach(layer) for layer in takers if not layer.depthwise] or [np.ones_like(reach)], 0)
    floor_reach, floor_weight = reach.max() / MOST, max(weight.max() / MOST, 1e-30)
    scale = np.maximum(reach, floor_reach) ** strength / np.maximum(weight, floor_weight) ** (1 - strength)
    scale = scale / np.exp(np.log(scale).mean())
    clipped: Floats = np.clip(scale, MOST**-0.5, MOST**0.5)
    return clipped


def _estimate_error(takers: list[Layer], reach: Floats, square: Floats, scale: Floats) -> float:
    """The expected squared rounding error of the layers' outputs, each relative to its output."""
    step = (reach / scale).max() / 255
    total = 0.0
    for layer in takers:
        weights = _arrange_by_input(layer)  # (outputs, C, taps)
        power = (weights**2).sum((0, 2))  # of each input channel
        signal = float((power * square).sum())
        rounding = step**2 / 12 * float((power * scale**2).sum())
        if not layer.depthwise:  # in a depthwise layer each channel has its own scale, so nothing is lost
            steps = np.abs(weights * scale[:, None]).max((1, 2)) / 127  # of each output channel
            rounding += float((steps**2).sum()) / 12 * weights.shape[2] * float((square / scale**2).sum())
        total += rounding / max(signal, 1e-30)
    return total


def _arrange_by_input(layer: Layer) -> Floats:
    """The weights as (outputs, input channels, taps); a depthwise layer has one output for each channel."""
    weights: Floats = layer.weights.astype(np.float64)
    if layer.depthwise:
        return weights.reshape(1, weights.shape[0], -1)
    if weights.ndim == 3:  # x_proj (K, D, M), whose inputs are its second axis
        weights = weights.transpose(0, 2, 1).reshape(-1, weights.shape[1])
    by_output: Floats = weights.T if layer.kind.in_axis == 0 else weights
    flat: Floats = by_output.reshape(*by_output.shape[:2], -1)
    return flat


def _measure_reach(layer: Layer) -> Floats:
    """The largest |weight| of each input channel."""
    found: Floats = np.abs(_arrange_by_input(layer)).max((0, 2))
    return found


def _rescale(group: Group, scale: Floats) -> None:
    """Divides where the value is produced, and multiplies where it is used."""
    node = group.maker
    if _is_norm(node):
        for index in _find_affine_inputs(node):
            _multiply(node, index, 1 / scale)
    elif node.op_type == "Conv":
        _multiply(node, 1, (1 / scale)[:, None, None, None])
        if len(node.inputs) > 2:
            _multiply(node, 2, 1 / scale)
    else:
        _multiply(node, 1, 1 / scale)  # MatMul: the columns
    for layer in group.takers:
        rank = layer.weights.ndim
        axis = 0 if layer.depthwise else layer.kind.in_axis
        _multiply(layer.node, 1, scale.reshape([-1 if i == axis else 1 for i in range(rank)]))


def _multiply(node: ir.Node, index: int, factor: Floats) -> None:
    """Multiplies the constant at this input by `factor`. A constant with other users is copied first."""
    old = node.inputs[index]
    assert old is not None
    assert node.graph is not None
    numbers = (read_constant(old).astype(np.float64) * factor).astype(np.float32)
    if len(list(old.uses())) == 1:
        old.const_value = ir.tensor(numbers, name=old.name)
        return
    new = ir.Value(name=f"{node.name}.input{index}", shape=old.shape, type=old.type)
    new.const_value = ir.tensor(numbers, name=new.name)
    node.graph.register_initializer(new)
    node.replace_input_with(index, new)


def _is_norm(node: ir.Node) -> bool:
    return bool(_find_affine_inputs(node))


def _find_affine_inputs(node: ir.Node) -> tuple[int, ...]:
    """The positions of the scale and bias inputs of a norm over the last axis; () for any other node."""
    operator = find_operator(node)
    if operator is not None:
        return tuple(map(operator.place, operator.affine))
    last = node.attributes.get_int("axis", -1) == -1
    return (1, 2) if node.op_type == "LayerNormalization" and last else ()


def _can_divide(node: ir.Node, by_node: Mapping[ir.Node, Layer]) -> bool:
    """Whether the node is a layer whose output channels can be divided."""
    return node in by_node and node.op_type in ("Conv", "MatMul") and not by_node[node].shares_weight


def _lets_scale_pass(node: ir.Node) -> bool:
    return node.domain == "" and node.op_type in (*PASSING, "Mul")


def _find_takers(value: ir.Value, by_node: Mapping[ir.Node, Layer]) -> list[Layer]:
    """The layers that use the value, directly or through operators that let scales pass; empty if others use it too."""
    found: list[Layer] = []
    for node, index in value.uses():
        if node in by_node and index == 0 and node.domain == "" and _is_plain(by_node[node]):
            found.append(by_node[node])
            continue
        beyond = _find_takers(node.outputs[0], by_node) if _lets_scale_pass(node) else []
        if not beyond:
            return []
        found += beyond
    return [] if value.is_graph_output() else found


def _is_plain(layer: Layer) -> bool:
    """Whether the layer has no groups, or one filter for each channel, and a weight of its own."""
    if layer.shares_weight:
        return False
    group = layer.node.attributes.get_int("group", 1)
    return group == 1 or (layer.depthwise and layer.weights.shape[:2] == (group, 1))
