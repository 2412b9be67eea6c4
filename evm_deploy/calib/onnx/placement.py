"""Decides where QuantizeLinear and DequantizeLinear are placed: as few as the runtime needs.

A value becomes an integer if a chosen layer takes it, if the runtime needs the output of a convolution as integers, or
if an operator without weights uses it between two such values. Layout changes are passed through, so that one
conversion serves every layer that reads the value.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from onnxscript import ir

from evm_deploy.calib.onnx.layers import Layer, walk_back
from evm_deploy.calib.onnx.scheme import Scheme

LAYOUT = frozenset({"Transpose", "Reshape"})
Use = tuple[ir.Node, int]  # an input of a node


@dataclass(frozen=True)
class Conversion:
    """A value that becomes an integer, and those of its uses that take the integer."""

    value: ir.Value
    uses: tuple[Use, ...]


def find_conversions(chosen: Iterable[Layer], scheme: Scheme) -> list[Conversion]:
    """Finds the values that become integers and their uses, in an order that depends only on the graph."""
    chosen = list(chosen)
    convolutions = [layer.node for layer in chosen if scheme.integer_outputs and layer.node.op_type == "Conv"]
    outputs = dict.fromkeys(follow_relu(node.outputs[0]) for node in convolutions)
    wanted = dict.fromkeys((layer.node, 0) for layer in chosen if layer.node.domain == "")
    _extend(wanted, outputs, scheme)

    found: dict[ir.Value, tuple[Use, ...]] = {value: tuple(value.uses()) for value in outputs}
    for node, index in wanted:
        value = node.inputs[index]
        assert value is not None
        path = list(walk_back(value, LAYOUT))
        if not outputs.keys().isdisjoint(path):
            continue  # an integer already
        for before in path[1:]:
            if not all(_takes_integers(use, wanted) for use in before.uses()):
                break
            value = before
        found.setdefault(value, tuple(use for use in value.uses() if _takes_integers(use, wanted)))
    return [Conversion(value, uses) for value, uses in found.items()]


def _extend(wanted: dict[Use, None], outputs: Collection[ir.Value], scheme: Scheme) -> None:
    """Adds the inputs of operators without weights that stand between integers, until no more are found."""
    queue = list(wanted)
    while queue:
        node, index = queue.pop()
        value = node.inputs[index]
        assert value is not None
        *_, root = walk_back(value, LAYOUT)
        maker = root.producer()
        if root in outputs or maker is None or not _runs_on_integers(maker, outputs, scheme):
            continue
        for use in ((maker, i) for i in range(len(maker.inputs))):
            if use not in wanted:
                wanted[use] = None
                queue.append(use)


def _runs_on_integers(node: ir.Node, outputs: Collection[ir.Value], scheme: Scheme) -> bool:
    """Whether the runtime runs this operator without weights on integers, and all its inputs are integers."""
    if node.domain != "" or node.op_type not in scheme.elementwise:
        return False
    for value in node.inputs:
        assert value is not None
        *_, root = walk_back(value, LAYOUT)
        maker = root.producer()
        if root not in outputs and (maker is None or not _runs_on_integers(maker, outputs, scheme)):
            return False
    return True


def _takes_integers(use: Use, wanted: Collection[Use]) -> bool:
    node, _ = use
    if node.domain == "" and node.op_type in LAYOUT:
        uses = tuple(node.outputs[0].uses())
        return bool(uses) and all(_takes_integers(after, wanted) for after in uses)
    return use in wanted


def follow_relu(value: ir.Value) -> ir.Value:
    """The value after a Relu that the runtime fuses into the node before it; without a Relu the value itself."""
    uses = tuple(value.uses())
    alone = len(uses) == 1 and uses[0][0].op_type == "Relu"
    return uses[0][0].outputs[0] if alone else value
