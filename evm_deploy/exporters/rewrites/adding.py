"""Adding nodes to a traced program."""

from collections.abc import Callable
from typing import Any

from torch.fx import Node
from torch.fx.node import map_arg

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
