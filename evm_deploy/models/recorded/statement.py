"""What one part of a checkpoint states of the preprocessing, in the words of the manifest."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evm_deploy.manifest import LARGEST_IMAGE, SMALLEST_IMAGE, Preprocessing
from evm_deploy.models.pickles import StandIn

LEVELS = 255  # of 8 bits: how mean and deviation are told that are not in units of 0..1
_SHOWN = 40


@dataclass
class Statement:
    """Collects what a part of a file states. Its values are those of fields of `Preprocessing`, by their names."""

    source: str  # where in the file it stands
    values: dict[str, Any] = field(default_factory=dict)
    image_size: tuple[int, int] | None = None  # (h, w)
    scale: tuple[int, int] | None = None  # the long and short side of the box that images are fitted into
    remarks: dict[str, str] = field(default_factory=dict)  # what cannot be done as it is stated, by the field it is of

    def add(self, name: str, value: Any) -> None:
        """Adds the value of a field; one that the manifest does not know is a remark."""
        try:
            if isinstance(value, bool):  # which Python takes for a number
                raise TypeError
            known = Preprocessing((32, 32), **{name: value})
        except (TypeError, ValueError):
            self.remark(name, f"{name} {quote(value)}, which export does not know")
        else:
            self.values[name] = getattr(known, name)

    def add_colours(self, mean: Any, std: Any, *, levels: bool = False) -> None:
        """Adds mean and deviation, three numbers or one for all three; None: not stated.

        levels: they are in units of 0..255, as they are also if any is above 1.
        """
        found = {name: _read_colours(value) for name, value in (("mean", mean), ("std", std)) if value is not None}
        if any(value is None for value in found.values()):
            self.remark("mean", "a mean and std that are no three numbers")
            return
        numbers = {name: value for name, value in found.items() if value is not None}
        levels = levels or any(each > 1 for value in numbers.values() for each in value)
        for name, value in numbers.items():
            self.add(name, tuple(each / LEVELS for each in value) if levels else value)

    def add_size(self, size: Any) -> None:
        """Adds what the images were cropped to: a number, (h, w) or (channels, h, w)."""
        sides = (size, size) if _is_number(size) else tuple(size)[-2:] if isinstance(size, (list, tuple)) else ()
        if len(sides) == 2 and all(_is_number(side) and 1 <= side <= LARGEST_IMAGE for side in sides):
            self.image_size = int(sides[0]), int(sides[1])

    def add_scale(self, sides: Any) -> None:
        """Adds the box that images are fitted into, either way round; anything else is not stated."""
        whole = isinstance(sides, (list, tuple)) and len(sides) == 2 and all(type(side) is int for side in sides)
        if whole and min(sides) >= SMALLEST_IMAGE and max(sides) <= LARGEST_IMAGE:
            self.scale = max(sides), min(sides)

    def remark(self, name: str, stated: str) -> None:
        """Adds what is stated of the field and cannot be done; an option for it takes the remark away."""
        self.remarks[name] = f"{self.source} of the checkpoint states {stated}"


def as_mapping(value: Any) -> Mapping[str, Any]:
    """The entries of a dictionary, and the attributes of an object that was not loaded; {}: it is neither."""
    attributes = value.attributes if isinstance(value, StandIn) else None
    entries = value if isinstance(value, Mapping) else {}
    return {name: each for name, each in {**(attributes or {}), **entries}.items() if isinstance(name, str)}


def quote(value: Any) -> str:
    """A value of an untrusted file in a line for people."""
    text = ascii(value) if value is None or isinstance(value, (str, int, float)) else type(value).__name__
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def compute_share(crop: int, size: int) -> float:
    """The crop_pct whose resize size is exactly `size`, where `crop` is kept of it."""
    share = crop / size
    while math.floor(crop / share) < size:
        share = math.nextafter(share, 0)
    return share


def _read_colours(value: Any) -> tuple[float, float, float] | None:
    numbers = [value] if _is_number(value) else list(value) if isinstance(value, (list, tuple)) else []
    if len(numbers) not in (1, 3) or not all(map(_is_number, numbers)):
        return None
    first, second, third = numbers * (3 // len(numbers))
    return float(first), float(second), float(third)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= 1e6
