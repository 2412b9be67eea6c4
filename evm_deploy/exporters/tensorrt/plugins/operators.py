"""Shared by both kinds of plugins: the operators that have one, and their nodes in the graph."""

import onnx

from evm_deploy.operators import DOMAIN, OPERATORS, is_scan

VERSION = "1"  # of the plugins
PLUGINS = tuple(operator for operator in OPERATORS.values() if operator.plan is not None)
# The sizes among a kernel's arguments are these axes of the first input: K, L, D of u, or H, W, D of x.
SIZES = (1, 2, 3)


def mark_scans(proto: onnx.ModelProto) -> int:
    """Marks every scan node with its plugin, which other runtimes ignore. Returns the number of these nodes."""
    nodes = [node for node in proto.graph.node if is_scan(node)]
    for node in nodes:
        there = {attribute.name for attribute in node.attribute}  # of a graph that was marked before
        for name, value in (("plugin_namespace", DOMAIN), ("plugin_version", VERSION), ("aot", 1)):
            if name not in there:
                node.attribute.append(onnx.helper.make_attribute(name, value))
    return len(nodes)


def remove_bodies(graph: bytes) -> bytes:
    """The model without the functions of the operators that have a plugin."""
    proto = onnx.load_from_string(graph)
    ours = {(DOMAIN, operator.name) for operator in PLUGINS}
    kept = [body for body in proto.functions if (body.domain, body.name) not in ours]
    del proto.functions[:]
    proto.functions.extend(kept)
    changed: bytes = proto.SerializeToString()
    return changed
