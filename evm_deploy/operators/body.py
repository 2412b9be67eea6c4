"""A function body under construction: each call adds one node of standard ONNX and names its output."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.numpy_helper
from onnx import AttributeProto, TensorProto, helper

from evm_deploy.operators.operator import DOMAIN, VERSION, Operator

_TYPES = {int: AttributeProto.INT, float: AttributeProto.FLOAT}


class Body:
    """Nodes of one function; `body("Add", a, b)` returns the name of the result.

    Constants and shapes are in the spelling that every tool reads, `Constant(value)` and `Shape` without a range, and
    each is there once.
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._known: dict[tuple[object, ...], str] = {}  # constants, shapes and sizes by what they are of

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
        return self._constant(np.array(values, np.int64))

    def end(self, axes: int) -> str:
        """The `ends` of a Slice that goes to the end of so many axes."""
        return self.ints(*[2**63 - 1] * axes)

    def scalar(self, value: int) -> str:
        """A constant scalar of int64."""
        return self._constant(np.array(value, np.int64))

    def number(self, value: float) -> str:
        """A constant scalar of float32."""
        return self._constant(np.array(value, np.float32))

    def floats(self, value: str) -> str:
        return self("Cast", value, to=TensorProto.FLOAT)

    def booleans(self, value: str) -> str:
        return self("Cast", value, to=TensorProto.BOOL)

    def integers(self, value: str) -> str:
        """As int32."""
        return self("Cast", value, to=TensorProto.INT32)

    def size(self, tensor: str, axis: int) -> str:
        """The size of one axis, as a vector of one int64."""
        shape = self._once(("Shape", tensor), lambda: self("Shape", tensor))
        return self._once(("size", tensor, axis), lambda: self("Gather", shape, self.ints(axis), axis=0))

    def shape(self, *sizes: str | int) -> str:
        """A vector of numbers and of results of `size`, such as a shape for Reshape."""
        parts: list[str] = []
        for is_number, group in itertools.groupby(sizes, lambda size: isinstance(size, int)):
            found: list[Any] = list(group)
            parts += [self.ints(*found)] if is_number else found
        return parts[0] if len(parts) == 1 else self("Concat", *parts, axis=0)

    def unsqueeze(self, tensor: str, *axes: int) -> str:
        return self("Unsqueeze", tensor, self.ints(*axes))

    def pad(
        self, tensor: str, rank: int, before: Mapping[int, str | int] = {}, after: Mapping[int, str | int] = {}
    ) -> str:
        """Zeros before and after the given axes; the amounts are numbers, or vectors of one int64.

        All axes are written out: onnxruntime 1.20 moves transposes across Pad as if it had no input `axes`.
        """
        amounts = [sides.get(axis, 0) for sides in (before, after) for axis in range(rank)]
        return self("Pad", tensor, self.shape(*amounts))

    def missing(self, size: str, multiple: int) -> str:
        """How much `size` lacks to be a multiple: -size mod multiple."""
        return self("Mod", self("Neg", size), self.ints(multiple))

    def function(self, operator: Operator, opset: int) -> onnx.FunctionProto:
        """The finished function: the body of `operator`."""
        imports = [helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, VERSION)]
        return helper.make_function(
            DOMAIN, operator.name, list(operator.inputs), ["y"], self.nodes, imports, list(operator.attributes)
        )

    def _constant(self, array: npt.NDArray[Any]) -> str:
        value = onnx.numpy_helper.from_array(array)
        return self._once((array.dtype, array.shape, array.tobytes()), lambda: self("Constant", value=value))

    def _once(self, key: tuple[object, ...], write: Callable[[], str]) -> str:
        """What `write` names, written at the first call with this key alone."""
        if key not in self._known:
            self._known[key] = write()
        return self._known[key]

    def _fresh(self, op: str, index: int = 0) -> str:
        return f"{op.lower()}_{len(self.nodes)}_{index}"
