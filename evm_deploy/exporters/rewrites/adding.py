"""Adding nodes to a traced program."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch.fx import Node
from torch.fx.node import map_arg

from evm_deploy.exporters.rewrites.movements import Unknown, aten

Write = Callable[..., Node]


def make_writer(like: Node) -> Write:
    """What adds a call, with what is noted of `like`, at the place where the graph inserts."""
    mode = like.meta["val"].fake_mode

    def write(target: Any, *args: Any, **kwargs: Any) -> Node:
        node = like.graph.call_function(target, args, kwargs)
        node.meta = {key: value for key, value in like.meta.items() if key != "val"}
        with mode:
            node.meta["val"] = target(*map_arg(args, lambda each: each.meta["val"]), **kwargs)
        return node

    return write


class Layout(NamedTuple):
    """A tensor (B, P, D, S) in memory, whose tokens are P and S together."""

    P: int
    D: int
    S: int


def list_tokens(write: Write, value: Node, layout: Layout, batch: int) -> Node:
    """The tokens (B, P S, D) of what lies so."""
    P, D, S = layout
    value = _swap(write, value, batch, layout)
    return _reshape(write, value, [batch, P * S, D])


def place_tokens(write: Write, tokens: Node, layout: Layout, sizes: list[int]) -> Node:
    """Tokens (B, P S, D) so arranged, in this shape."""
    P, D, S = layout
    tokens = _swap(write, tokens, read_sizes(tokens)[0], Layout(P, S, D))
    return _reshape(write, tokens, sizes)


def read_sizes(node: Node) -> list[int]:
    """Its shape for a reshape: -1 where the batch is free. Raises Unknown: that is in several axes."""
    sizes = [size if isinstance(size, int) else -1 for size in node.meta["val"].shape]
    if sizes.count(-1) > 1:
        raise Unknown
    return sizes


def _reshape(write: Write, value: Node, sizes: list[int]) -> Node:
    return value if read_sizes(value) == sizes else write(aten.reshape.default, value, sizes)


def _swap(write: Write, value: Node, batch: int, layout: Layout) -> Node:
    """(B, P, D, S) in memory -> (B, P, S, D)."""
    P, D, S = layout
    if 1 in (D, S):
        return value
    if P == 1:
        return write(aten.transpose.int, _reshape(write, value, [batch, D, S]), 1, 2)
    return write(aten.transpose.int, _reshape(write, value, [batch, P, D, S]), 2, 3)
