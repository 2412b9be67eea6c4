"""Which values the nodes of a graph use."""

from collections.abc import Iterable, Iterator

import onnx


def list_used(nodes: Iterable[onnx.NodeProto]) -> Iterator[str]:
    """The names of all values that nodes take, those within the branches and bodies of nodes among them."""
    for node in nodes:
        yield from filter(None, node.input)  # "": an input that is left out
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else ())):
                yield from list_used(inner.node)
                yield from (value.name for value in inner.output)
