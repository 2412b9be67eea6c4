"""Replaces activation functions of 8-bit values by tables of their 256 results.

A runtime would dequantise such a value, apply the function, and often quantise the result again; the table holds the
results of exactly that. Tables are placed where channels come last. A runtime moves no change of layout through an
operator that it does not know, so its convolutions stay on integers.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from onnxscript import ir

from evm_deploy.calib.onnx.rewrites import TO_NHWC, add_constant, replace_node
from evm_deploy.operators import DOMAIN, is_scan, lookup

Numbers = npt.NDArray[np.float64]
Function = Callable[[Numbers], Numbers]
Parameters = tuple[np.float32, np.uint8]  # scale and zero point


def silu(x: Numbers) -> Numbers:
    """SiLU: x times its sigmoid."""
    decay = np.exp(-np.abs(x))  # does not overflow
    result: Numbers = x * np.where(x < 0, decay, 1) / (1 + decay)
    return result


def gelu(x: Numbers) -> Numbers:
    """GELU: x times the share of a normal distribution below it."""
    share: Numbers = np.array([math.erfc(-number / math.sqrt(2)) / 2 for number in x])
    return x * share


def gelu_tanh(x: Numbers) -> Numbers:
    """GELU with the tanh approximation."""
    share: Numbers = (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2
    return x * share


GELUS: dict[str, Function] = {"none": gelu, "tanh": gelu_tanh}


def make_table(function: Function, given: Parameters, wanted: Parameters | None) -> npt.NDArray[np.generic]:
    """`function` of each uint8 of the parameters `given`, (256,): as float32, or as uint8 of those `wanted`."""
    scale, zero = given
    numbers = (np.arange(256) - int(zero)).astype(np.float32) * scale
    results: npt.NDArray[np.float32] = function(numbers.astype(np.float64)).astype(np.float32)
    if wanted is None:
        return results
    scale, zero = wanted
    integers: npt.NDArray[np.uint8] = np.clip(np.rint(results / scale) + int(zero), 0, 255).astype(np.uint8)
    return integers


def write_lookups(graph: ir.Graph) -> None:
    """Inserts lookups, in place, where the integers of a convolution are used only by SiLU or Gelu.

    The result has to become integers again, or be the input of a scan.
    """
    for node in list(graph):
        chain = _find_chain(node)
        if chain is not None:
            _replace_chain(graph, chain)


@dataclass(frozen=True)
class _Chain:
    """DequantizeLinear, the function, and QuantizeLinear and DequantizeLinear but before a scan; one Transpose."""

    nodes: tuple[ir.Node, ...]  # in the order of the graph
    function: Function
    given: Parameters
    wanted: Parameters | None
    quantize: ir.Node | None


def _find_chain(node: ir.Node) -> _Chain | None:
    integers = node.inputs[0] if node.op_type == "DequantizeLinear" else None
    given = _read_parameters(node)
    if (
        integers is None
        or given is None
        or not _comes_from_convolution(integers)
        or _find_only_user(integers) is not node
    ):
        return None
    nodes = [node]
    _pass_transpose(nodes)
    function = _pass_function(nodes)
    if function is None:
        return None
    result = nodes[-1].outputs[0]
    if tuple(result.uses()) and all(is_scan(user) and index == 0 for user, index in result.uses()):
        wanted, quantize = None, None
    else:
        quantize = _find_only_user(result)
        wanted = None if quantize is None or quantize.op_type != "QuantizeLinear" else _read_parameters(quantize)
        dequantize = None if quantize is None else _find_only_user(quantize.outputs[0])
        if wanted is None or quantize is None or dequantize is None or dequantize.op_type != "DequantizeLinear":
            return None
        nodes += [quantize, dequantize]
        _pass_transpose(nodes)
    if sum(each.op_type == "Transpose" for each in nodes) != 1:
        return None
    return _Chain(tuple(nodes), function, given, wanted, quantize)


def _pass_transpose(nodes: list[ir.Node]) -> None:
    """Appends the Transpose to channels last, if it is the only user of the last node's output."""
    user = _find_only_user(nodes[-1].outputs[0])
    if user is not None and user.op_type == "Transpose" and list(user.attributes["perm"].as_ints()) == TO_NHWC:
        nodes.append(user)


def _pass_function(nodes: list[ir.Node]) -> Function | None:
    """Appends the nodes of SiLU or Gelu, if they are the only users of the last node's output; returns the function."""
    value = nodes[-1].outputs[0]
    alone = _find_only_user(value)
    if alone is not None and alone.domain == "" and alone.op_type == "Gelu":
        nodes.append(alone)
        return GELUS.get(alone.attributes.get_string("approximate", "none"))
    users = {user.op_type: user for user, _ in value.uses()}
    if value.is_graph_output() or len(tuple(value.uses())) != 2 or users.keys() != {"Sigmoid", "Mul"}:
        return None
    if _find_only_user(users["Sigmoid"].outputs[0]) is not users["Mul"]:
        return None
    nodes += [users["Sigmoid"], users["Mul"]]
    return silu


def _replace_chain(graph: ir.Graph, chain: _Chain) -> None:
    integers, end = chain.nodes[0].inputs[0], chain.nodes[-1]
    assert integers is not None
    entries = add_constant(graph, f"{integers.name}.table", make_table(chain.function, chain.given, chain.wanted))
    transpose = next(node for node in chain.nodes if node.op_type == "Transpose")
    rows = ir.node("Transpose", [integers], transpose.attributes, name=transpose.name)
    rows.outputs[0].name = f"{integers.name}.rows"
    made = ir.node(lookup.OPERATOR.name, [rows.outputs[0], entries], domain=DOMAIN, name=f"{integers.name}.lookup")
    graph.insert_before(end, [rows])
    if chain.quantize is not None:
        made.outputs[0].name = f"{integers.name}.found"
        graph.insert_before(end, [made])
        made = ir.node("DequantizeLinear", [made.outputs[0], *chain.quantize.inputs[1:]], name=f"{made.name}.floats")
    replace_node(graph, end, made)
    graph.remove(reversed(chain.nodes[:-1]), safe=True)


def _read_parameters(node: ir.Node) -> Parameters | None:
    """The scale and zero point of a conversion, if they are constant scalars for uint8."""
    if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or len(node.inputs) != 3:
        return None
    scale, zero = (None if value is None else value.const_value for value in node.inputs[1:])
    if scale is None or zero is None or scale.size != 1 or zero.dtype != ir.DataType.UINT8:
        return None
    return np.float32(scale.numpy().item()), np.uint8(zero.numpy().item())


def _comes_from_convolution(integers: ir.Value) -> bool:
    quantize = integers.producer()
    value = quantize.inputs[0] if quantize is not None and quantize.op_type == "QuantizeLinear" else None
    convolution = None if value is None else value.producer()
    return convolution is not None and convolution.op_type == "Conv"


def _find_only_user(value: ir.Value) -> ir.Node | None:
    uses = tuple(value.uses())
    return uses[0][0] if len(uses) == 1 and not value.is_graph_output() else None
