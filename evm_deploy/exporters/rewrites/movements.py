"""Operations that only move values: run on numbers that say where each value comes from, they tell where it goes."""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node
from torch.fx.experimental.symbolic_shapes import free_symbols, free_unbacked_symbols
from torch.fx.node import map_arg

SEVERAL = 2  # a batch of any size is taken as this one
aten = torch.ops.aten
_MOVING = frozenset(
    getattr(aten, name)
    for name in (
        "alias cat chunk clone concat contiguous copy detach expand flatten flip gather index index_select "
        "lift_fresh_copy mT movedim narrow numpy_T permute repeat repeat_interleave roll rot90 select select_scatter "
        "slice slice_scatter split split_with_sizes squeeze stack swapaxes t transpose unbind unflatten unsqueeze"
    ).split()
)
_SHAPING = frozenset((aten._unsafe_view, aten.reshape, aten.view))  # any layout in memory will do
_CASTING = frozenset((aten._to_copy, aten.to))


class Unknown(Exception):
    """A value cannot be followed."""


def packet(node: Node) -> Any:
    """The operation of a node, whichever overload; None where it is none of PyTorch's."""
    return getattr(node.target, "overloadpacket", None)


def list_tensors(node: Node) -> list[Node]:
    """Its inputs that are tensors, or lists of them."""
    return [each for each in node.all_input_nodes if not isinstance(each.meta["val"], (int, torch.SymInt))]


def moves(node: Node) -> bool:
    """Whether all that it gives are values of its inputs; float16 may become float32."""
    if packet(node) in _CASTING:
        given = node.args[0]
        return isinstance(given, Node) and node.meta["val"].dtype in (given.meta["val"].dtype, torch.float32)
    return node.target is operator.getitem or packet(node) in _MOVING or packet(node) in _SHAPING


def move(node: Node, find: Callable[[Node], Any]) -> Any:
    """What `node` gives for the tensors that `find` gives for its inputs. Raises Unknown."""

    def read(argument: Node) -> Any:
        value = argument.meta.get("val")
        return count(value) if isinstance(value, (int, torch.SymInt)) else find(argument)

    args, kwargs = map_arg(node.args, read), map_arg(node.kwargs, read)
    if packet(node) in _CASTING:
        return args[0]
    run: Any = aten.reshape.default if packet(node) in _SHAPING else node.target
    return run(*args, **kwargs)


def count(size: Any) -> int:
    """A size as a number, where the batch is `SEVERAL` if it is free. Raises Unknown: it depends on values."""
    if isinstance(size, int):
        return size
    symbols = free_symbols(size)
    if len(symbols) != 1 or free_unbacked_symbols(size):
        raise Unknown
    return int(size.node.expr.subs(symbols.pop(), SEVERAL))


def shape_of(node: Node) -> list[int]:
    """Its shape in numbers. Raises Unknown."""
    return [count(size) for size in node.meta["val"].shape]


def number(node: Node) -> Tensor:
    """A number for each of its values. Raises Unknown."""
    shape = shape_of(node)
    return torch.arange(torch.Size(shape).numel(), dtype=torch.int32).view(shape)
