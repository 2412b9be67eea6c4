"""One input or output tensor of a model, as manifests describe it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

Shape = tuple[int | str | None, ...]  # a length, or the name of a length that is chosen at run time


@dataclass(frozen=True)
class IOSpec:
    """One input or output tensor. A dimension is a length, or the name of a length chosen at run time."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid", "strict": True}

    name: str
    shape: Shape
    dtype: Literal["float32", "float16", "uint8", "int32", "int64"]
    layout: Literal["NCHW", "NHWC", "NHW", "NC", "N"]
    meaning: str  # of an input "image"; of an output one that its task knows
    range: tuple[float, float] | None = None  # least and greatest value, where there is a bound

    def fits(self, shape: Sequence[int], dtype: str, *, empty: bool = False) -> bool:
        """Whether an array of this shape and dtype can be this tensor; one without values only if it may be `empty`."""
        sides = zip(shape, self.shape, strict=False)
        same = all(have == said or not isinstance(said, int) for have, said in sides)
        return same and len(shape) == len(self.shape) and (empty or 0 not in shape) and dtype == self.dtype

    def takes(self, other: IOSpec) -> bool:
        """Whether this input takes what `other` describes, whose lengths are all known; names and ranges aside."""
        lengths = [length for length in other.shape if isinstance(length, int)]
        return (self.layout, self.meaning) == (other.layout, other.meaning) and self.fits(lengths, other.dtype)


def describe_image(size: tuple[int | str, int | str], batch: int | str = 1, *, baked: bool) -> IOSpec:
    """The input of a model that takes images of (h, w): normalised NCHW ones, or with `baked` uint8 NHWC ones."""
    if baked:
        return IOSpec("image", (batch, *size, 3), "uint8", "NHWC", "image", (0, 255))
    return IOSpec("image", (batch, 3, *size), "float32", "NCHW", "image")
