"""The bodies of our operators as functions of a model, which a runtime without our kernels inlines."""

from collections.abc import Iterable, Mapping
from typing import Any

import onnx

from evm_deploy.errors import InputError
from evm_deploy.operators import DOMAIN, OPERATORS, Operator
from evm_deploy.operators.body import Body


def bodies(proto: onnx.ModelProto) -> list[onnx.FunctionProto]:
    """The bodies that the nodes of `proto` need, written for its opset, each after those that it calls.

    Raises InputError where two nodes need different bodies of one operator.
    """
    opset = next(entry.version for entry in proto.opset_import if entry.domain == "")
    nodes: dict[str, list[onnx.NodeProto]] = {}
    for node in proto.graph.node:
        if node.domain == DOMAIN:
            nodes.setdefault(node.op_type, []).append(node)
    needed = set(nodes)
    for operator in reversed(OPERATORS.values()):
        if operator.name in needed:
            needed |= {callee.name for callee in operator.calls}
    return [
        write_body(operator, opset, **_shared_values(operator, nodes.get(operator.name, [])))
        for operator in OPERATORS.values()
        if operator.name in needed
    ]


def write_body(operator: Operator, opset: int, **values: Any) -> onnx.FunctionProto:
    """The body of `operator`, specialised for these values of its attributes."""
    body = Body()
    operator.write_body(body, **values)
    return body.function(operator, opset)


def _shared_values(operator: Operator, nodes: Iterable[onnx.NodeProto]) -> Mapping[str, Any]:
    """The values, the same in all nodes, of the attributes that the body is specialised for.

    Raises InputError where they differ: a model has one body of an operator.
    """
    found: dict[str, tuple[Any, str]] = {}  # the value, and the node that has it
    for node in nodes:
        for attribute in node.attribute:
            if attribute.name not in operator.specialised:
                continue
            value = onnx.helper.get_attribute_value(attribute)
            first, name = found.setdefault(attribute.name, (value, node.name))
            if value != first:
                raise InputError(
                    f"{name} has {attribute.name} {first}, and {node.name} has {attribute.name} {value}: a model has "
                    f"one body of {operator.name}, which is written for one of them.",
                    f"use the same {attribute.name} in all scans of the model.",
                )
    return {attribute: value for attribute, (value, _) in found.items()}
