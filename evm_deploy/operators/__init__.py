"""The operators of the domain `evm`: a module each, and the table that everything else asks.

Importing it imports no library: bodies, torch forms and launch plans import what they need when they are called.
"""

from typing import Protocol

from evm_deploy.operators import (
    causal_conv,
    efficient_scan_2d,
    gated_norm,
    grouped_scan,
    lookup,
    mean_of_norm,
    ordered_scan,
    quantized_efficient_scan_2d,
    selective_scan,
)
from evm_deploy.operators.operator import DOMAIN, SCAN, VERSION, Operator

__all__ = ["DOMAIN", "OPERATORS", "VERSION", "Operator", "find_operator", "is_scan"]

# An operator stands after those that its body calls: functions are written into a model in this order.
OPERATORS: dict[str, Operator] = {
    module.OPERATOR.name: module.OPERATOR
    for module in (
        causal_conv,
        selective_scan,
        efficient_scan_2d,
        grouped_scan,
        ordered_scan,
        quantized_efficient_scan_2d,
        gated_norm,
        mean_of_norm,
        lookup,
    )
}


class Node(Protocol):
    """A node of an ONNX graph, as `onnx` or as `onnxscript` have it."""

    @property
    def domain(self) -> str: ...
    @property
    def op_type(self) -> str: ...


def find_operator(node: Node) -> Operator | None:
    """Which of our operators the node is of, or None."""
    return OPERATORS.get(node.op_type) if node.domain == DOMAIN else None


def is_scan(node: Node) -> bool:
    """Whether the node is a selective scan, in whichever form."""
    operator = find_operator(node)
    return operator is not None and operator.kind == SCAN
