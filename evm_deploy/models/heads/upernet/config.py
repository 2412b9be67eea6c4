"""What distinguishes one UperNet from another."""

from dataclasses import dataclass
from typing import Any

POOLED = (1, 2, 3, 6)  # the sides of the maps that the coarsest is pooled to


@dataclass(frozen=True)
class UperNetConfig:
    """width: of every convolution."""

    backbone_family: str
    backbone: Any
    width: int
    num_classes: int
