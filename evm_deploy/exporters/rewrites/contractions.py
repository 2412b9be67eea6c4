"""Products of values with constant weights, whichever operation computes them, as `torch.einsum` writes them."""

from collections.abc import Callable
from dataclasses import dataclass
from string import ascii_lowercase
from typing import Any

from torch import Tensor
from torch.fx import Node

from evm_deploy.exporters.rewrites.movements import aten, packet, shape_of

Find = Callable[[Node], Tensor | None]


@dataclass(frozen=True, eq=False)
class Contraction:
    """`einsum(f"{of_data},{of_weight}->{of_result}", data, weight)`, plus a bias (the weight's letters of the result).

    data_shape: the shape in which the data has a letter for each axis.
    """

    data: Node
    data_shape: list[int]
    weight: Tensor
    of_data: str
    of_weight: str
    of_result: str
    bias: Tensor | None = None

    @property
    def summed(self) -> str:
        """The letters that the sum runs over."""
        return "".join(each for each in self.of_data if each in self.of_weight and each not in self.of_result)

    @property
    def chosen(self) -> str:
        """The letters of the result that choose the weights."""
        return "".join(each for each in self.of_result if each in self.of_weight)

    @property
    def kept(self) -> str:
        """The letters of the result that choose the data."""
        return "".join(each for each in self.of_result if each in self.of_data)


def read_contraction(node: Node, find: Find) -> Contraction | None:
    """The product that `node` computes; None where it is none. `find` gives constants."""
    read = _READERS.get(packet(node))
    product = read(node, find) if read is not None else None
    if product is None or not product.summed:
        return None
    letters = set(product.of_data) | set(product.of_weight)
    return product if letters == set(product.of_result) | set(product.summed) else None


def _read_linear(node: Node, find: Find) -> Contraction | None:
    data: Any
    weight: Any
    data, weight, *bias = node.args
    value, shape = find(weight), shape_of(data)
    if value is None or value.dim() != 2:
        return None
    rows = ascii_lowercase[: len(shape) - 1]
    added = find(bias[0]) if bias and isinstance(bias[0], Node) else None
    if added is None and bias and bias[0] is not None:
        return None
    return Contraction(data, shape, value, f"{rows}y", "zy", f"{rows}z", added)


def _read_matmul(node: Node, find: Find) -> Contraction | None:
    left: Any
    right: Any
    left, right = node.args
    weight_first = find(left) is not None
    data, weight = (right, find(left)) if weight_first else (left, find(right))
    shape = shape_of(data)
    if weight is None or weight.dim() < 2 or len(shape) < 2:
        return None
    rank = max(len(shape), weight.dim())
    batch = ascii_lowercase[: rank - 2]
    of_data, of_weight = batch[rank - len(shape) :], batch[rank - weight.dim() :]
    for letter in set(of_data) & set(of_weight):  # where one is stretched along an axis, it has none
        if weight.shape[of_weight.index(letter)] == 1:
            weight = weight.squeeze(of_weight.index(letter))
            of_weight = of_weight.replace(letter, "")
        elif shape[of_data.index(letter)] == 1:
            shape = [size for size, each in zip(shape, [*of_data, "", ""], strict=True) if each != letter]
            of_data = of_data.replace(letter, "")
    first, second = "xy", "yz"
    if weight_first:
        return Contraction(data, shape, weight, of_data + second, of_weight + first, f"{batch}xz")
    return Contraction(data, shape, weight, of_data + first, of_weight + second, f"{batch}xz")


def _read_einsum(node: Node, find: Find) -> Contraction | None:
    equation: Any
    operands: Any
    equation, operands, *_ = node.args
    letters = equation.replace(" ", "")
    if len(operands) != 2 or "->" not in letters or "." in letters:
        return None
    (first, second), result = letters.partition("->")[0].split(","), letters.partition("->")[2]
    left, right = (find(operand) for operand in operands)
    if (left is None) == (right is None) or any(len(set(part)) < len(part) for part in (first, second)):
        return None
    if right is not None:
        return Contraction(operands[0], shape_of(operands[0]), right, first, second, result)
    assert left is not None
    return Contraction(operands[1], shape_of(operands[1]), left, second, first, result)


def _read_convolution(node: Node, find: Find) -> Contraction | None:
    """With a kernel of one place, over any number of axes."""
    names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    given: dict[str, Any] = dict(zip(names, node.args, strict=False)) | node.kwargs
    data, bias, G = given["input"], given.get("bias"), given.get("groups", 1)
    value, shape = find(given["weight"]), shape_of(data)
    added = find(bias) if isinstance(bias, Node) else None
    plain = set(given.get("stride", [1])) == {1} and given.get("padding", [0]) in ([0], [0, 0])
    if value is None or not plain or value.shape[2:].numel() != 1 or len(shape) != value.dim():
        return None
    if added is None and bias is not None:
        return None
    places = ascii_lowercase[1 : len(shape) - 1]
    value = value.view(G, -1, value.shape[1])
    added = None if added is None else added.view(G, -1)
    split = [shape[0], G, shape[1] // G, *shape[2:]]
    return Contraction(data, split, value, f"axy{places}", "xzy", f"axz{places}", added)


_READERS: dict[Any, Callable[[Node, Find], Contraction | None]] = {
    aten.linear: _read_linear,
    aten.matmul: _read_matmul,
    aten.bmm: _read_matmul,
    aten.mm: _read_matmul,
    aten.einsum: _read_einsum,
    aten.conv1d: _read_convolution,
    aten.conv2d: _read_convolution,
}
