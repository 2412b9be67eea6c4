"""The options of `evaluate`."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from evm_deploy.errors import OptionError
from evm_deploy.options import check_ranges, option

# The form of an address. Dask would wait forever for one that it cannot parse.
ADDRESS = re.compile(r"(?:(?:tcp|tls|ws|wss|ucx|ucxx)://)?(?:\[[^\[\]\s]+\]|[^\[\]:/\s]+):\d{1,5}/?")


def _parse_ratios(text: str | None) -> tuple[float, ...]:
    try:
        return () if text is None else tuple(map(float, text.split(",")))
    except ValueError:
        raise OptionError(f"{text!r} is not a list of scales.", "write 0.5,0.75,1,1.25,1.5,1.75.") from None


SHARE = "it is a share: write 0.9 for 90 %."


@dataclass(frozen=True)
class Scales:
    """ratios: of the size of the original image. flip: mirrored from left to right as well."""

    ratios: tuple[float, ...]
    flip: bool

    def describe(self) -> str:
        """For people."""
        return f"at {', '.join(f'{ratio:g}' for ratio in self.ratios)}{' and mirrored' if self.flip else ''}"


@dataclass(frozen=True)
class EvaluateOptions:
    """Options of `evaluate`. Raises OptionError for a value that does not exist, or options that exclude each other."""

    checkpoint: str | os.PathLike[str] | None = field(
        default=None, metadata=option("PyTorch beside them, as the float model to agree with.", kind=Path)
    )
    key: str | None = field(default=None, metadata=option("The entry of that checkpoint that holds the weights."))
    annotations: str | os.PathLike[str] | None = field(
        default=None,
        metadata=option("What is in the images: COCO's JSON, or a folder of label maps (PNG).", kind=Path),
    )
    reduce_zero_label: bool = field(
        default=False, metadata=option("In label maps 0 stands for no class, and classes count from 1 (ADE20K).")
    )
    multi_scale: tuple[float, ...] = field(
        default=(),
        metadata=option(
            "PyTorch once more, at several scales of the original image, averaged: 0.5,0.75,1 (segmenters).",
            kind=str,
            default=None,
            parse=_parse_ratios,
            minimum=0.1,
            maximum=4,
            fix="the usual ones are 0.5,0.75,1,1.25,1.5,1.75.",
        ),
    )
    flip: bool = field(default=False, metadata=option("Mirrored as well, at each of these scales."))
    floor: float | None = field(
        default=None,
        metadata=option(
            "Least top-1, AP or mIoU of every bundle, 0 to 1 (0.9 is 90 %).",
            kind=float,
            minimum=0,
            maximum=1,
            fix=SHARE,
        ),
    )
    max_drop: float | None = field(
        default=None,
        metadata=option(
            "Most points of it (0.3: three images in 1000) lost against the float model.",
            kind=float,
            minimum=0,
            maximum=100,
            fix="write 0.3 for three images in a thousand.",
        ),
    )
    count: int | None = field(  # None: all
        default=None, metadata=option("Evaluate on a sample of so many images.", kind=int, minimum=1)
    )
    seed: int = field(default=0, metadata=option("Of that sample.", minimum=0))
    library: bool = field(default=True, metadata=option("Run without our operator library."))
    every_way: bool = field(default=False, metadata=option("Run each bundle in every way that this machine has."))
    latency_runs: int = field(default=30, metadata=option("Timed runs of each; 0 leaves latency out.", minimum=0))
    workers: int | None = field(  # more than the maximum is a typing mistake that would exhaust the machine
        default=None,
        metadata=option("Share the images out to so many processes here.", kind=int, minimum=1, maximum=1024),
    )
    cluster: str | None = field(
        default=None,
        metadata=option("Share them out over a Dask cluster: tcp://host:8786. It sees the same paths."),
    )
    shards: int | None = field(
        default=None, metadata=option("Parts that are shared out: what a lost worker costs.", kind=int, minimum=1)
    )
    out: str | os.PathLike[str] | None = field(
        default=None, metadata=option("A folder for the report and the confusion matrices.", kind=Path)
    )

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.key is not None and self.checkpoint is None:
            raise OptionError("a key is of a checkpoint.", "name it as well: --checkpoint.")
        if self.multi_scale and self.checkpoint is None:
            what = "the test at several scales runs the checkpoint in PyTorch."
            raise OptionError(what, "name it as well: --checkpoint.")
        if self.flip and not self.multi_scale:
            raise OptionError("images are mirrored in the test at several scales.", "give --multi-scale 1 as well.")
        if self.workers is not None and self.cluster is not None:
            raise OptionError("workers are of this machine, a cluster has its own.", "give --workers or --cluster.")
        if self.cluster is not None and not ADDRESS.fullmatch(self.cluster):
            raise OptionError(f"{self.cluster!r} is not the address of a cluster.", "write tcp://host:8786.")
        if self.reduce_zero_label and self.annotations is None:
            raise OptionError("no label maps are given whose 0 could stand for no class.", "give --annotations too.")
        if self.shards is not None and not self.distributed:
            raise OptionError("shards need somebody to take them.", "give --workers or --cluster as well.")
        if self.every_way and not self.library:
            raise OptionError("every way includes the one with our operators.", "leave one of the two options out.")

    @property
    def scales(self) -> Scales | None:
        """Those of the test at several."""
        return Scales(self.multi_scale, self.flip) if self.multi_scale else None

    @property
    def distributed(self) -> bool:
        """Whether several processes share the images."""
        return self.workers is not None or self.cluster is not None
