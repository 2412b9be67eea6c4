"""Shared by both kinds of plugins: the operators that have one, and their nodes in the graph."""

from collections.abc import Callable, Iterable
from typing import Any

import onnx

from evm_deploy.operators import DOMAIN, OPERATORS, find_operator, is_scan
from evm_deploy.operators.operator import INDICES, STATE, Side

VERSION = "1"  # of the plugins
PLUGINS = tuple(operator for operator in OPERATORS.values() if operator.gpu is not None)
MARKS = (("plugin_namespace", DOMAIN), ("plugin_version", VERSION), ("aot", 1))
TYPES = {STATE: "float32", INDICES: "int64"}  # in every precision


def mark_scans(proto: onnx.ModelProto) -> int:
    """Marks every node that has a plugin, in the graph and in bodies, with it; other runtimes ignore that. Returns the
    number of scans in the graph.
    """
    for nodes in (proto.graph.node, *(body.node for body in proto.functions)):
        for node in nodes:
            if _has_plugin(node):
                there = {attribute.name for attribute in node.attribute}  # of a graph that was marked before
                new = [onnx.helper.make_attribute(name, value) for name, value in MARKS if name not in there]
                node.attribute.extend(new)
    return sum(map(is_scan, proto.graph.node))


def count_plugins(graph: bytes) -> int:
    """How many plugins the model is run with, those in bodies counted for every call."""
    proto = onnx.load_from_string(graph)
    bodies = {(body.domain, body.name): body.node for body in proto.functions}

    def count(nodes: Iterable[onnx.NodeProto]) -> int:
        inside = (bodies.get((node.domain, node.op_type), ()) for node in nodes if not _has_plugin(node))
        return sum(map(_has_plugin, nodes)) + sum(map(count, inside))

    return count(proto.graph.node)


def remove_bodies(graph: bytes) -> bytes:
    """The model without the functions of the operators that have a plugin."""
    proto = onnx.load_from_string(graph)
    ours = {(DOMAIN, operator.name) for operator in PLUGINS}
    kept = [body for body in proto.functions if (body.domain, body.name) not in ours]
    del proto.functions[:]
    proto.functions.extend(kept)
    changed: bytes = proto.SerializeToString()
    return changed


def read_sides(sides: Iterable[Side], names: Iterable[str], read: Callable[[int, int], Any]) -> list[Any]:
    """What `read` gives of the place and the axis of each side of inputs with these names."""
    places = {name: place for place, name in enumerate(names)}
    return [read(places[name], axis) for name, axis in sides]


def _has_plugin(node: onnx.NodeProto) -> bool:
    operator = find_operator(node)
    return operator is not None and operator.gpu is not None
