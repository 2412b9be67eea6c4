"""Finds the origin of each node of the runtime's graph: an operator of the bundle's graph, and a block of the network.

The runtime fuses nodes, changes layouts, inlines function bodies, and makes new names for the results. Most names of
the values between the operators of the bundle's graph survive, and some new names contain old ones.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import onnx

from evm_deploy.graph.blocks import block_of, last_block
from evm_deploy.operators import selective_scan

_MADE_OF = re.compile(r"(.+?)(?:_token_\d+|_nchwc|_new_reshape|/.*)+")  # what the runtime appends to names
_BODY = re.compile(r"_inlfunc_([A-Za-z0-9]+)_.*")  # a value in the body of a function that the runtime inlined
_CALL = re.compile(r".+__(\d+)")  # a node in a body that the exporter inlined, with the number of the call


@dataclass(frozen=True)
class Origin:
    """An operator of the bundle's graph and its block. Both are "" for a node without an origin."""

    op: str
    block: str


def find_origins(bundled: onnx.GraphProto, optimised: onnx.GraphProto) -> list[Origin]:
    """The origin of each node of `optimised`, in its order.

    A node whose names say nothing is part of what takes its value: of a convolution whose layout was changed, of a
    product that was made two-dimensional.
    """
    blocks, operators = _name_blocks(bundled), _name_operators(bundled)
    places = _index_names(bundled)
    takers: dict[str, tuple[int, str]] = {}  # for each value: the first node of the bundle's graph that uses it
    found: list[tuple[int, str] | None] = []
    for node in reversed(optimised.node):
        known = [places[name] for text in (*node.output, node.name) if (name := _find_name(text, places))]
        after = min((takers[value] for value in node.output if value in takers), default=None)
        origin = (known[0], operators[known[0]]) if known else after
        body = next((match[1] for value in node.output if (match := _BODY.fullmatch(value))), None)
        if origin is not None and body:
            origin = (origin[0], body)
        found.append(origin)
        if origin is not None:
            takers |= {value: min(origin, takers.get(value, origin)) for value in node.input}
    return [Origin("", "") if origin is None else Origin(origin[1], blocks[origin[0]]) for origin in found[::-1]]


def _index_names(graph: onnx.GraphProto) -> dict[str, int]:
    """The index of the node for each name; names of values take precedence over names of nodes."""
    names = {node.name: index for index, node in enumerate(graph.node) if node.name}
    return names | {value: index for index, node in enumerate(graph.node) for value in node.output if value}


def _find_name(text: str, places: dict[str, int]) -> str | None:
    if text in places:
        return text
    match = _MADE_OF.fullmatch(text)
    return match[1] if match and match[1] in places else None


def _name_operators(graph: onnx.GraphProto) -> list[str]:
    """The operator of each node; for nodes of an inlined scan body, the operator of the function.

    The recurrence is the call with a Softplus. The scan around it is the call that both feeds and follows it.
    """
    calls = [match[1] if (match := _CALL.fullmatch(node.name)) else "" for node in graph.node]
    scans = {call for call, node in zip(calls, graph.node, strict=True) if call and node.op_type == "Softplus"}
    sources = {value: call for call, node in zip(calls, graph.node, strict=True) for value in node.output}
    edges = {
        (sources[value], call)
        for call, node in zip(calls, graph.node, strict=True)
        for value in node.input
        if value in sources
    }
    around = {before for before, after in edges if before and after in scans and (after, before) in edges}
    ours, recurrence = scans | around, selective_scan.OPERATOR.name
    return [recurrence if call in ours else node.op_type for call, node in zip(calls, graph.node, strict=True)]


def _name_blocks(graph: onnx.GraphProto) -> list[str]:
    """The block of each node: the first block whose output depends on it."""
    sources = {value: index for index, node in enumerate(graph.node) for value in node.output if value}
    blocks: dict[int, str] = {}
    for index, node in enumerate(graph.node):
        for block in filter(None, map(block_of, node.output)):
            _assign(graph.node, sources, blocks, index, block)
    after = (value for index, node in enumerate(graph.node) if index not in blocks for value in node.input)
    rest = last_block(after) if blocks else ""
    return [blocks.get(index, rest) for index in range(len(graph.node))]


def _assign(
    nodes: Sequence[onnx.NodeProto], sources: dict[str, int], blocks: dict[int, str], last: int, block: str
) -> None:
    """Assigns `block` to the node `last` and to the nodes that it depends on, if they have no block yet."""
    todo = [last]
    while todo:
        index = todo.pop()
        if index not in blocks:
            blocks[index] = block
            todo += [sources[value] for value in nodes[index].input if value in sources]
