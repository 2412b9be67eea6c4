"""What `evm::GatedNorm` and `evm::MeanOfNorm` mean: LayerNormalization with what follows it, so that one kernel does
both in one pass over memory. Bodies in standard ONNX, as in `functions.py`.
"""

import onnx

from evm_deploy.graph.body import Body


def gated_norm(opset: int) -> onnx.FunctionProto:
    """LayerNorm(x) * SiLU(z) for x, z (..., C), scale and bias (C)."""
    b = Body()
    b.nodes.append(_normalise("normed"))
    b("Mul", "normed", b("Mul", "z", b("Sigmoid", "z")), name="y")
    return b.function("GatedNorm", ["x", "z", "scale", "bias"], ["y"], ["epsilon"], opset)


def mean_of_norm(opset: int) -> onnx.FunctionProto:
    """The mean over H and W of LayerNorm(x), (B, 1, 1, C), for x (B, H, W, C), scale and bias (C)."""
    b = Body()
    b.nodes.append(_normalise("normed"))
    b("ReduceMean", "normed", b.ints(1, 2), name="y", keepdims=1)
    return b.function("MeanOfNorm", ["x", "scale", "bias"], ["y"], ["epsilon"], opset)


def _normalise(output: str) -> onnx.NodeProto:
    """LayerNormalization over the last axis, its epsilon that of the node which calls the function."""
    node = onnx.helper.make_node("LayerNormalization", ["x", "scale", "bias"], [output], axis=-1)
    epsilon = node.attribute.add()
    epsilon.name, epsilon.ref_attr_name, epsilon.type = "epsilon", "epsilon", onnx.AttributeProto.FLOAT
    return node
