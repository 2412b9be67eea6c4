"""A function body under construction: each call adds one node of standard ONNX and names its output."""

from collections.abc import Mapping, Sequence
from typing import Any

import onnx
from onnx import AttributeProto, TensorProto, helper

from evm_deploy.operators.operator import DOMAIN, VERSION, Operator

_TYPES = {int: AttributeProto.INT, float: AttributeProto.FLOAT}


class Body:
    """Nodes of one function; `body("Add", a, b)` returns the name of the result."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []

    def __call__(self, op: str, *inputs: str, name: str | None = None, domain: str = "", **attributes: Any) -> str:
        return self.many(op, *inputs, names=[name or self._fresh(op)], domain=domain, **attributes)[0]

    def many(self, op: str, *inputs: str, names: Sequence[str] | int, domain: str = "", **attributes: Any) -> list[str]:
        """A node with several outputs, given by their names or their number."""
        outputs = [self._fresh(op, i) for i in range(names)] if isinstance(names, int) else list(names)
        # a name, so that a runtime's record of what it ran can be read
        self.nodes.append(helper.make_node(op, list(inputs), outputs, name=outputs[0], domain=domain, **attributes))
        return outputs

    def call(self, operator: Operator, *inputs: str, **attributes: Any) -> str:
        """A node of another of our operators."""
        return self(operator.name, *inputs, domain=DOMAIN, **attributes)

    def refer(
        self, op: str, *inputs: str, name: str, attribute: str, fills: str, type: type[int] | type[float], **others: Any
    ) -> str:
        """A node whose attribute `fills` is the `attribute` of the node that calls the function."""
        node = helper.make_node(op, list(inputs), [name], **others)
        value = node.attribute.add()
        value.name, value.ref_attr_name, value.type = fills, attribute, _TYPES[type]
        self.nodes.append(node)
        return name

    def layer_norm(self, x: str, scale: str, bias: str, *, name: str) -> str:
        """LayerNormalization over the last axis, its epsilon that of the node which calls the function."""
        return self.refer(
            "LayerNormalization", x, scale, bias, name=name, attribute="epsilon", fills="epsilon", type=float, axis=-1
        )

    def ints(self, *values: int) -> str:
        """A constant vector of int64."""
        return self("Constant", value_ints=list(values))

    def scalar(self, value: int) -> str:
        """A constant scalar of int64."""
        return self("Constant", value_int=value)

    def floats(self, value: str) -> str:
        return self("Cast", value, to=TensorProto.FLOAT)

    def booleans(self, value: str) -> str:
        return self("Cast", value, to=TensorProto.BOOL)

    def integers(self, value: str) -> str:
        """As int32."""
        return self("Cast", value, to=TensorProto.INT32)

    def size(self, tensor: str, axis: int) -> str:
        """The size of one axis, as a vector of one int64."""
        return self("Shape", tensor, start=axis, end=axis + 1)

    def shape(self, *sizes: str | int) -> str:
        """A shape for Reshape, of numbers and of results of `size`."""
        return self("Concat", *(self.ints(s) if isinstance(s, int) else s for s in sizes), axis=0)

    def unsqueeze(self, tensor: str, *axes: int) -> str:
        return self("Unsqueeze", tensor, self.ints(*axes))

    def pad(self, tensor: str, rank: int, before: Mapping[int, str] = {}, after: Mapping[int, str] = {}) -> str:
        """Zeros before and after the given axes; the amounts are vectors of one int64.

        All axes are written out: onnxruntime 1.20 moves transposes across Pad as if it had no input `axes`.
        """
        amounts = [sides.get(axis, self.ints(0)) for sides in (before, after) for axis in range(rank)]
        return self("Pad", tensor, self("Concat", *amounts, axis=0))

    def missing(self, size: str, multiple: int) -> str:
        """How much `size` lacks to be a multiple: -size mod multiple."""
        return self("Mod", self("Neg", size), self.ints(multiple))

    def function(self, operator: Operator, opset: int) -> onnx.FunctionProto:
        """The finished function: the body of `operator`."""
        imports = [helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, VERSION)]
        return helper.make_function(
            DOMAIN, operator.name, list(operator.inputs), ["y"], self.nodes, imports, list(operator.attributes)
        )

    def _fresh(self, op: str, index: int = 0) -> str:
        return f"{op.lower()}_{len(self.nodes)}_{index}"
