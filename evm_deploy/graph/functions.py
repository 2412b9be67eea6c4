"""The bodies of our operators as functions of a model, which a runtime without our kernels inlines."""

from collections.abc import Iterable, Mapping
from typing import Any

import onnx

from evm_deploy.errors import InputError
from evm_deploy.operators import DOMAIN, OPERATORS, Operator, find_operator
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
    tokens = _count_tokens(proto.graph)
    return [
        write_body(operator, opset, **_shared_values(operator, nodes.get(operator.name, [])), **_fit(operator, tokens))
        for operator in OPERATORS.values()
        if operator.name in needed
    ]


def write_body(operator: Operator, opset: int, **values: Any) -> onnx.FunctionProto:
    """The body of `operator`, specialised for these values of its attributes."""
    body = Body()
    operator.write_body(body, **values)
    return body.function(operator, opset)


def _fit(operator: Operator, tokens: int | None) -> Mapping[str, Any]:
    return operator.fit_body(tokens) if operator.fit_body and tokens else {}


def _count_tokens(graph: onnx.GraphProto) -> int | None:
    """The length of the longest sequence that a node scans; None where one is not known."""
    shapes: dict[str, tuple[int, ...]] = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info):
        shapes[value.name] = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)  # 0: any length
    longest = 0
    for node in graph.node:
        operator = find_operator(node)
        if operator is None or operator.count_tokens is None:
            continue
        given = {
            name: shapes[value] for name, value in zip(operator.inputs, node.input, strict=False) if value in shapes
        }
        attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
        try:
            known = {name: attributes[name] for name in operator.attributes}
            tokens = operator.count_tokens(given, **known)
        except (LookupError, ValueError, ArithmeticError):  # no shape, or a node that the checks after this refuse
            return None
        if tokens < 1:
            return None
        longest = max(longest, tokens)
    return longest or None


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
