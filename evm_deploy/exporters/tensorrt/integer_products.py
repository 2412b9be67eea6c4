"""The products of an ONNX graph that are to be on integers: those that take dequantised values on both sides."""

import onnx

from evm_deploy.errors import CheckFailed

PRODUCTS = ("Conv", "Gemm", "MatMul")
# What may stand between a conversion and the product: it moves numbers, and engines do it on integers.
LAYOUT = ("Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


def find_integer_products(graph: bytes) -> frozenset[str]:
    """The names of the nodes that multiply two dequantised values; one without a name as libraries call it.

    A product of which one side alone is dequantised is computed in float, whatever a library's report says it takes.
    Raises CheckFailed where there are none.
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
