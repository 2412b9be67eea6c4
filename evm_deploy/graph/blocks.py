"""How a graph tells the blocks of its network: by the names of values, and of the weights after the last block."""

import itertools
from collections.abc import Iterable

NETWORK = "model."  # before the names of the network's modules: it is a part of what is exported
_OUTPUT = ".output"


def output_of(module: str) -> str:
    """The name of the value that the module of this path returns."""
    return f"{module}{_OUTPUT}"


def block_of(value: str) -> str | None:
    """The block of the network that returns the value of this name; None where no block does."""
    if not value.endswith(_OUTPUT):
        return None
    return value.removesuffix(_OUTPUT).removeprefix(NETWORK)


def last_block(values: Iterable[str]) -> str:
    """The module that all weights among these values are in: the values are those that nodes after the last named
    block take. Its own output is the graph's, whose name stays. "" where it has none or there are several.
    """
    weights = (value for value in values if value.startswith(NETWORK) and block_of(value) is None)
    owners = [value.removeprefix(NETWORK).split(".")[:-1] for value in weights]
    shared = itertools.takewhile(lambda parts: len(set(parts)) == 1, zip(*owners, strict=False))
    return ".".join(parts[0] for parts in shared)
