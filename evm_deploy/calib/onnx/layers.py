"""Finds the layers of a graph: the nodes that multiply by weights and could do so with integers."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from onnxscript import ir

from evm_deploy.graph.blocks import NETWORK, block_of, last_block
from evm_deploy.operators import DOMAIN, OPERATORS, Operator, find_operator

# A smaller layer, by its shares of the multiply-adds and of the weights, is not worth the conversions around it.
LEAST_WORK, LEAST_WEIGHTS = 1e-3, 5e-3


@dataclass(frozen=True)
class LayerKind:
    """The axes of an operator: the channels of its input, and the output and input channels of its weight."""

    channel_axis: int
    out_axis: int
    in_axis: int


KINDS = {
    ("", "Conv"): LayerKind(1, 0, 1),
    ("", "MatMul"): LayerKind(-1, 1, 0),
    ("", "Gemm"): LayerKind(-1, 0, 1),  # as the exporter writes it, with transB
} | {
    (DOMAIN, operator.name): LayerKind(-1, operator.weight.out_axis, operator.weight.in_axis)
    for operator in OPERATORS.values()
    if operator.weight is not None and operator.weight.quantised is not None
}


@dataclass(frozen=True)
class Layer:
    """A node with a constant weight; its input is `node.inputs[0]`, its weight `node.inputs[1]`."""

    name: str  # in messages and for `--exclude`
    block: str  # of the network: layers.0.blocks.1
    node: ir.Node
    kind: LayerKind

    @property
    def input(self) -> ir.Value:
        value = self.node.inputs[0]
        assert value is not None
        return value

    @property
    def weight(self) -> ir.Value:
        value = self.node.inputs[1]
        assert value is not None
        return value

    @property
    def weights(self) -> npt.NDArray[np.float32]:
        """The weight, in the layout of the operator."""
        return read_constant(self.weight)

    @property
    def operator(self) -> Operator | None:
        """The row of the operator, if it is one of ours."""
        return find_operator(self.node)

    @property
    def depthwise(self) -> bool:
        """Whether each input channel has filters of its own."""
        return self.node.op_type == "Conv" and self.node.attributes.get_int("group", 1) > 1

    @property
    def shares_weight(self) -> bool:
        """Whether other nodes multiply by the same weight, as the levels of a pyramid do in a head."""
        return len(list(self.weight.uses())) > 1

    @property
    def bias_use(self) -> tuple[ir.Node, int] | None:
        """The node and input that take the bias (O,): this node, or the Add after a MatMul."""
        node, uses = self.node, list(self.node.outputs[0].uses())
        if node.op_type in ("Conv", "Gemm"):
            return (node, 2) if len(node.inputs) > 2 else None
        if node.op_type != "MatMul" or len(uses) != 1 or uses[0][0].op_type != "Add":
            return None
        add, index = uses[0]
        other = add.inputs[1 - index]
        if other is None or other.const_value is None or len(other.const_value.shape) != 1:
            return None
        return add, 1 - index

    @property
    def bias(self) -> ir.Value | None:
        """The bias; None for a scan, whose bias has another meaning."""
        use = self.bias_use
        return None if use is None else use[0].inputs[use[1]]

    def multiply_adds(self, shapes: Mapping[str, tuple[int, ...]]) -> int:
        """The multiply-adds of the layer for outputs of these shapes; for a scan, those of its first projection."""
        weight: tuple[int, ...] = self.weights.shape
        out = shapes[str(self.node.outputs[0].name)]
        if self.operator is not None:
            return math.prod(out[:-1]) * weight[self.kind.in_axis] * weight[self.kind.out_axis]  # a token has one group
        return math.prod(out) * math.prod(weight) // weight[self.kind.out_axis]


def read_constant(value: ir.Value) -> npt.NDArray[np.float32]:
    """The numbers of a constant, as float32."""
    assert value.const_value is not None
    return np.asarray(value.const_value.numpy(), np.float32)


def find_layers(model: ir.Model) -> list[Layer]:
    """Every layer of the graph, in the order of its nodes."""
    blocks = _find_blocks(model.graph)
    found = []
    for node in model.graph:
        kind = KINDS.get((node.domain, node.op_type))
        weight = node.inputs[1] if kind and len(node.inputs) > 1 else None
        if kind is None or weight is None or not _is_float_constant(weight) or not _is_standard(node):
            continue
        block, name, own = blocks[node], str(weight.name), str(node.name).removeprefix("node_")
        if name.startswith(NETWORK):
            name = name.removeprefix(NETWORK).removesuffix(".weight").removesuffix(".x_proj")
        else:  # the exporter transposed it
            name = f"{block}.{own}".removeprefix(".")
        layer = Layer(name, block, node, kind)
        found.append(replace(layer, name=f"{name}.{own}") if layer.shares_weight else layer)
    return found


def select_worthwhile(found: list[Layer], shapes: Mapping[str, tuple[int, ...]]) -> list[Layer]:
    """Selects the layers with enough of the network's work, or of its weights, to be worth the conversions.

    Depthwise layers are always selected: they stand between others, whose integers would end there.
    """
    work = {layer.name: layer.multiply_adds(shapes) for layer in found}
    sizes = {layer.name: layer.weights.size for layer in found}
    least_work, least_weights = LEAST_WORK * sum(work.values()), LEAST_WEIGHTS * sum(sizes.values())
    return [
        layer
        for layer in found
        if layer.depthwise or work[layer.name] >= least_work or sizes[layer.name] >= least_weights
    ]


def find_magnified(found: Sequence[Layer]) -> list[Layer]:
    """The convolution of the image, where a norm takes its result.

    In 8 bits, with a range that holds the brightest token, those of faint pixels would be a few steps high, and the
    norm would magnify the rounding.
    """
    return [layer for layer in found[:1] if layer.node.op_type == "Conv" and _enters_norm(layer.node.outputs[0])]


def _enters_norm(value: ir.Value) -> bool:
    """Whether a norm alone takes the value, transposed or not."""
    uses = list(value.uses())
    if len(uses) != 1:
        return False
    node = uses[0][0]
    return node.op_type == "LayerNormalization" or (node.op_type == "Transpose" and _enters_norm(node.outputs[0]))


def _is_float_constant(value: ir.Value) -> bool:
    return value.const_value is not None and value.const_value.dtype == ir.DataType.FLOAT


def _is_standard(node: ir.Node) -> bool:
    if node.op_type == "MatMul":  # onnxruntime multiplies integers with one matrix, not with one for each direction
        weight = node.inputs[1]
        return weight is not None and weight.const_value is not None and len(weight.const_value.shape) == 2
    return node.op_type != "Gemm" or (
        node.attributes.get_int("transB", 0) == 1
        and node.attributes.get_int("transA", 0) == 0
        and node.attributes.get_float("alpha", 1.0) == node.attributes.get_float("beta", 1.0) == 1.0
    )


def _find_blocks(graph: ir.Graph) -> dict[ir.Node, str]:
    """Finds the block of the network for each node: the block whose output comes next."""
    names: dict[ir.Node, str] = {}
    block: str | None = None
    rest: list[ir.Node] = []  # what comes after the last block
    for node in reversed(list(graph)):
        block = next(filter(None, (block_of(str(value.name)) for value in node.outputs)), block)
        if block is None:
            rest.append(node)
        else:
            names[node] = block
    last = last_block(str(value.name) for node in rest for value in node.inputs if value is not None)
    return dict.fromkeys(rest, last) | names


def walk_back(value: ir.Value, operators: frozenset[str]) -> Iterator[ir.Value]:
    """Yields `value` and the values it was made from by these single-input operators, nearest first."""
    yield value
    node = value.producer()
    while node is not None and node.domain == "" and node.op_type in operators:
        before = node.inputs[0]
        assert before is not None
        yield before
        node = before.producer()
