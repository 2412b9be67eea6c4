"""What an operator has to do at least: arithmetic by its shapes, and the bytes of what it reads and writes.

A multiplication, an addition, a comparison, a division, a root, an exponential and an error function count as one
operation each. Bytes count every input and output once, as if nothing stood in a cache before and all fitted into it
during the operator.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import onnx

from evm_deploy.operators import OPERATORS
from evm_deploy.profiling.kinds import BY_OPERATOR, LAYOUT
from evm_deploy.verification.integer_report import PRODUCTS

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Value:
    """A tensor as it was when the operator ran."""

    shape: Shape
    item: int  # bytes of an element

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Cost:
    """What one run of an operator takes at least. `flops` holds `integer_ops`; None where it is not known."""

    flops: int | None
    bytes: int
    integer_ops: int = 0  # of int8 or uint8, with sums in int32


Rule = Callable[[onnx.NodeProto, Sequence[Value], Value], int]  # node, inputs, first output


def cost(node: onnx.NodeProto, values: Mapping[str, Value]) -> Cost | None:
    """Of `node`, by the values of its inputs and outputs; None where one that counts is not among them."""
    inputs = [values.get(name, Value((0,), 0)) for name in node.input]
    outputs = [values[name] for name in node.output if name in values]
    needed = {name for name in node.input if name}
    if not outputs or any(name not in values for name in needed):
        return None
    operator = OPERATORS.get(node.op_type)
    shapes = {} if operator is None else dict(zip(operator.inputs, (value.shape for value in inputs), strict=False))
    flops = _flops(node, inputs, outputs[0]) if operator is None else operator.flops(shapes)
    if node.op_type in VIEWS:
        return Cost(flops, 0)
    read = sum(value.size * value.item for value in (values[name] for name in needed))
    written = sum(value.size * value.item for value in outputs)
    if node.op_type in PARTS:
        read = min(read, written)
    integers = (flops or 0) if PRODUCTS.get(node.op_type, (0, False))[1] else 0
    if operator is not None:
        integers = operator.integer_ops(shapes) if operator.integer_ops is not None else 0
    return Cost(flops, read + written, integers)


def _flops(node: onnx.NodeProto, inputs: Sequence[Value], out: Value) -> int | None:
    name = node.op_type
    if name in RULES:
        return RULES[name](node, inputs, out)
    if BY_OPERATOR.get(name) == LAYOUT:
        return 0
    if name in BY_ELEMENT:
        return BY_ELEMENT[name] * max(out.size, inputs[0].size if inputs else 0)
    return None


def _convolution(weight: int) -> Rule:  # (O, I, kh, kw)
    return lambda node, inputs, out: 2 * out.size * math.prod(inputs[weight].shape[1:])


def _product(node: onnx.NodeProto, inputs: Sequence[Value], out: Value) -> int:
    left = inputs[0].shape
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return 2 * out.size * (left[-2 if transposed and len(left) > 1 else -1] if left else 1)


VIEWS = ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity")  # which touch nothing
PARTS = ("Slice", "Gather", "GatherElements", "GatherND")  # which read of their input what they write
RULES: dict[str, Rule] = {
    **{name: _convolution(1) for name in ("Conv", "FusedConv", "NhwcFusedConv", "ConvInteger")},
    "QLinearConv": _convolution(3),
    **dict.fromkeys("MatMul FusedMatMul Gemm FusedGemm QGemm QLinearMatMul".split(), _product),
    **dict.fromkeys("MatMulInteger MatMulIntegerToFloat".split(), _product),
}
# For each element of the larger of the first input and the first output.
BY_ELEMENT = {
    **dict.fromkeys("Add Sub Mul Div Pow Sqrt Exp Log Neg Abs Reciprocal Where Equal Greater Less".split(), 1),
    **dict.fromkeys("Min Max Sum Floor Ceil Round Sign Relu Clip Tanh Erf".split(), 1),
    **dict.fromkeys("ReduceMean ReduceSum ReduceMax GlobalAveragePool GlobalMaxPool".split(), 1),
    **dict.fromkeys("QLinearGlobalAveragePool QLinearAdd QLinearMul".split(), 3),
    **{"Sigmoid": 3, "QLinearSigmoid": 0, "Softplus": 3, "Softmax": 4, "QuickGelu": 5, "Gelu": 5, "FastGelu": 8},
    **{"LayerNormalization": 7, "SkipLayerNormalization": 8},
    **{"Cast": 0, "QuantizeLinear": 3, "DequantizeLinear": 2, "DynamicQuantizeLinear": 5},
}
