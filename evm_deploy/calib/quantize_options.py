"""What can be asked of a quantisation."""

import difflib
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TypeVar

from evm_deploy.errors import OptionError, check_choice

METHODS = ("mse", "percentile", "entropy", "minmax", "moving-average")
PARTS = ("block", "layer")
Layer = TypeVar("Layer")


@dataclass(frozen=True)
class QuantizeOptions:
    """Options of `quantize`. Raises OptionError for a value that does not exist."""

    method: str = "mse"  # how the range of a tensor is chosen from its histogram
    percentile: float = 99.99  # for the method of that name: the share, in %, of values that the range covers
    samples: int | None = 256  # how many images are read for calibration; None: all
    seed: int = 0
    equalise: bool = True  # scales of channels move into the norm or layer before
    bias_correction: bool = True
    exclude: tuple[str, ...] = ()  # layers, or whole blocks, that stay float
    search: bool = False  # what each part loses and wins is measured, and the best mix is taken
    max_drop: float = 0.3  # for the search: points of top-1 that may be lost
    by: str = "block"  # for the search: what is a part
    cache: str | os.PathLike[str] | None = None  # a folder for what was measured: a killed run goes on from there
    plots: str | os.PathLike[str] | None = None  # a folder for pictures of histograms and ranges, and of the search
    verify: bool = True
    overwrite: bool = False

    def __post_init__(self) -> None:
        check_choice("method", self.method, METHODS)
        check_choice("part", self.by, PARTS)
        if not 0 <= self.max_drop <= 100:
            raise OptionError(f"a drop of {self.max_drop} points is not within 0 to 100.", "0.3 is a usual value.")
        if not 50 < self.percentile <= 100:
            raise OptionError(f"percentile {self.percentile} is not within 50 to 100.", "99.99 is a usual value.")
        if self.seed < 0:
            raise OptionError(f"the seed {self.seed} is negative.", "give 0 or more.")
        if self.samples is not None and self.samples < 1:
            raise OptionError(f"{self.samples} samples are none.", "ask for one at least, or leave it out.")


def check_excluded(excluded: Mapping[str, str], known: Collection[str]) -> None:
    """Raises OptionError for a name that is no layer or block. excluded: as the names are `known`, and as given."""
    for plain, name in excluded.items():
        if plain not in known:
            near = difflib.get_close_matches(plain, known, 1)
            fix = f"did you mean {near[0]!r}?" if near else "name a layer as the manifest lists them, or a block."
            raise OptionError(f"there is no layer or block {name!r} to exclude.", fix)


def some_left(layers: list[Layer]) -> list[Layer]:
    """The layers that were not excluded. Raises OptionError where there are none."""
    if not layers:
        raise OptionError("every layer is excluded.", "leave one at least to quantize.")
    return layers
