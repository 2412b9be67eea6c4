"""Finds the products of an ONNX graph that should run on integers: both of their inputs are dequantised."""

import onnx

from evm_deploy.errors import CheckFailed

PRODUCTS = ("Conv", "Gemm", "MatMul")
# Operators that may stand between a conversion and the product: engines run these changes of layout on integers.
LAYOUT = ("Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


def find_integer_products(graph: bytes) -> frozenset[str]:
    """The names of the nodes that multiply two dequantised values; unnamed nodes get the name that libraries use.

    A product with only one dequantised input is computed in float, whatever types a library reports for it.
    Raises CheckFailed if there are none.
    """
    proto = onnx.load_from_string(graph)
    makers = {output: node for node in proto.graph.node for output in node.output}
    found = frozenset(
        node.name or f"node_of_{node.output[0]}"
        for node in proto.graph.node
        if node.op_type in PRODUCTS and all(_is_dequantised(name, makers) for name in node.input[:2])
    )
    if not found:
        raise CheckFailed(
            "the graph multiplies nothing on integers.",
            "quantise it first; a layer needs a DequantizeLinear before its input and before its weight.",
        )
    return found


def _is_dequantised(name: str, makers: dict[str, onnx.NodeProto]) -> bool:
    node = makers.get(name)
    while node is not None and node.op_type in LAYOUT:
        node = makers.get(node.input[0])
    return node is not None and node.op_type == "DequantizeLinear"
