"""Reads the configuration of a head from the shapes of its tensors."""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from evm_deploy.models.family import UnsupportedNetwork

Other = tuple[re.Pattern[str], str]  # names of tensors that no head of ours has, and what they are
NORMS: Other = (re.compile(r"^(?!backbone\.).*\.(gn|bn|ln|norm)\w*\."), "normalisation in its head")
MOST = 999  # of layers of a kind


class TensorShapes:
    """The shapes of tensors, by name. What is asked for and not there is an UnsupportedNetwork."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}

    def __contains__(self, name: str) -> bool:
        return name in self._shapes

    def read(self, name: str, rank: int) -> tuple[int, ...]:
        """The shape of a tensor of `rank` dimensions, none of them 0."""
        if name not in self._shapes:
            raise UnsupportedNetwork(f"it has no {name}")
        shape = self._shapes[name]
        if len(shape) != rank or 0 in shape:
            raise UnsupportedNetwork(f"its {name} is {shape}, and no tensor of {rank} dimensions")
        return shape

    def count(self, prefix: str) -> int:
        """How many numbers from 0 on follow `prefix` in the names."""
        pattern = re.compile(re.escape(prefix) + r"(\d{1,3})\.", re.ASCII)
        found = {int(match[1]) for name in self._shapes if (match := pattern.match(name))}
        return next(i for i in range(MOST + 2) if i not in found)

    def refuse(self, others: Iterable[Other]) -> None:
        """Raises UnsupportedNetwork for the first tensor that one of `others` names."""
        for pattern, what in others:
            name = next((name for name in self._shapes if pattern.search(name)), None)
            if name is not None:
                raise UnsupportedNetwork(f"it has {what} ({name})")


def divide(count: int, parts: int, name: str, what: str) -> int:
    """The share of each of `parts`, where `count`, the channels of tensor `name`, are shared out."""
    if count % parts:
        raise UnsupportedNetwork(f"its {name} has {count} outputs, which are no multiple of {parts} {what}")
    return count // parts


def list_names(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
