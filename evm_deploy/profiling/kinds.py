"""The kind of an operator: what a person asks about when asking where the time goes."""

from evm_deploy.operators import OPERATORS
from evm_deploy.operators.operator import ACTIVATION, CONVOLUTION, NORM, SCAN

MATMUL, LAYOUT, CONVERSION = "matmul", "layout", "conversion"
ELEMENTWISE, OTHER = "elementwise", "other"
KINDS = (SCAN, CONVOLUTION, MATMUL, NORM, LAYOUT, CONVERSION, ACTIVATION, ELEMENTWISE, OTHER)

# Ours: whatever their bodies are made of belongs to them where a runtime inlines these.
OURS = {operator.name: operator.kind for operator in OPERATORS.values()}

_NAMES = {
    CONVOLUTION: "Conv FusedConv NhwcFusedConv QLinearConv ConvInteger ConvTranspose",
    MATMUL: "MatMul FusedMatMul Gemm FusedGemm QGemm QLinearMatMul MatMulInteger MatMulIntegerToFloat "
    "DynamicQuantizeMatMul MatMulNBits",
    NORM: "LayerNormalization SimplifiedLayerNormalization SkipLayerNormalization SkipSimplifiedLayerNormalization "
    "BatchNormalization InstanceNormalization GroupNormalization LpNormalization RMSNormalization",
    LAYOUT: "Reshape Transpose Squeeze Unsqueeze Flatten Identity Slice Split Concat Pad Expand Tile Gather "
    "GatherElements GatherND DepthToSpace SpaceToDepth ReorderInput ReorderOutput ScatterND ScatterElements",
    CONVERSION: "Cast CastLike QuantizeLinear DequantizeLinear DynamicQuantizeLinear",
    ACTIVATION: "Relu LeakyRelu Sigmoid Tanh Gelu FastGelu QuickGelu BiasGelu Softplus Softmax LogSoftmax HardSigmoid "
    "HardSwish Erf Clip Elu QLinearSigmoid QLinearSoftmax",
    ELEMENTWISE: "Add Sub Mul Div Pow Sqrt Exp Log Neg Abs Reciprocal Where Equal Greater Less Not And Or Min Max Sum "
    "Floor Ceil Round Sign QLinearAdd QLinearMul",
}
BY_OPERATOR = {name: kind for kind, names in _NAMES.items() for name in names.split()} | OURS


def kind(op: str, origin: str) -> str:
    """Of the runtime's operator `op`, which comes from the operator `origin` of the bundle's graph."""
    return OURS.get(origin) or BY_OPERATOR.get(op, OTHER)
