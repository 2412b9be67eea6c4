"""The options of `quantize`."""

import difflib
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from evm_deploy.errors import OptionError, check_choice
from evm_deploy.options import check_ranges, option

METHODS = ("mse", "percentile", "entropy", "minmax", "moving-average")
PARTS = ("block", "layer")
Layer = TypeVar("Layer")


@dataclass(frozen=True)
class QuantizeOptions:
    """Options of `quantize`. Raises OptionError for a value that does not exist."""

    method: str = field(default="mse", metadata=option(f"How ranges are chosen: {', '.join(METHODS)}."))
    # The share, in %, of values that the range covers; more than 50, 100 at most.
    percentile: float = field(default=99.99, metadata=option("For the method percentile."))
    samples: int | None = field(  # None: all
        default=256,
        metadata=option(
            "Images that are read, a sample of the data; 0 for all.", minimum=1, parse=lambda count: count or None
        ),
    )
    seed: int = field(default=0, metadata=option("Of that sample.", minimum=0))
    # Scales of channels move into the norm or layer before.
    equalise: bool = field(default=True, metadata=option("Leave the scales of channels alone."))
    bias_correction: bool = field(default=True, metadata=option("Leave the biases alone."))
    exclude: tuple[str, ...] = field(
        default=(), metadata=option("A layer or a block that stays float; may be given again.", kind=list)
    )
    search: bool = field(
        default=False, metadata=option("Measure what each part loses and wins, and take the best mix.")
    )
    annotations: str | os.PathLike[str] | None = field(
        default=None,
        metadata=option("For the search: what is in the images, as `evaluate` takes it.", kind=Path),
    )
    reduce_zero_label: bool = field(
        default=False, metadata=option("In label maps 0 stands for no class, and classes count from 1 (ADE20K).")
    )
    max_drop: float = field(
        default=0.3,
        metadata=option(
            "For the search: points of top-1, AP or mIoU that may be lost.",
            minimum=0,
            maximum=100,
            fix="0.3 is a usual value.",
        ),
    )
    require_speedup: float | None = field(
        default=None,
        metadata=option(
            "The least speedup over float here, 1.02 say, or nothing is written.",
            kind=float,
            minimum=1,
            maximum=100,
            fix="1.02 asks that int8 is faster at all.",
        ),
    )
    by: str = field(default="block", metadata=option("For the search: block or layer."))
    cache: str | os.PathLike[str] | None = field(
        default=None, metadata=option("A folder for what was measured: a killed run goes on from there.", kind=Path)
    )
    plots: str | os.PathLike[str] | None = field(
        default=None, metadata=option("A folder for pictures of histograms, ranges, the search.", kind=Path)
    )
    target: str | None = field(  # None: that of the bundle
        default=None, metadata=option("openvino, of an ONNX bundle; else the bundle's own.")
    )
    scan_form: str | None = field(  # None: the first that the target has
        default=None, metadata=option("operator; inlined: standard operators only.")
    )
    verify: bool = field(default=True, metadata=option("Do not compare with the float bundle."))
    overwrite: bool = field(default=False, metadata=option("Replace the bundle at --out."))

    def __post_init__(self) -> None:
        check_choice("method", self.method, METHODS)
        check_choice("part", self.by, PARTS)
        check_ranges(self)
        if not 50 < self.percentile <= 100:
            raise OptionError(f"percentile {self.percentile} is not within 50 to 100.", "99.99 is a usual value.")
        if self.annotations is not None and not self.search:
            raise OptionError("annotations are what a search measures by.", "give --search too, or leave them out.")
        if self.reduce_zero_label and self.annotations is None:
            raise OptionError("no label maps are given whose 0 could stand for no class.", "give --annotations too.")


def check_excluded(excluded: Mapping[str, str], known: Collection[str]) -> None:
    """Raises OptionError for a name that is not a layer or block.

    excluded: names in the spelling of `known`, each with the spelling that was given.
    """
    for plain, name in excluded.items():
        if plain not in known:
            near = difflib.get_close_matches(plain, known, 1)
            fix = f"did you mean {near[0]!r}?" if near else "name a layer as the manifest lists them, or a block."
            raise OptionError(f"there is no layer or block {name!r} to exclude.", fix)


def check_some_left(layers: list[Layer]) -> list[Layer]:
    """Returns the layers that were not excluded. Raises OptionError if there are none."""
    if not layers:
        raise OptionError("every layer is excluded.", "leave one at least to quantize.")
    return layers
