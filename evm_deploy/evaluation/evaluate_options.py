"""What can be asked of an evaluation."""

import os
import re
from dataclasses import dataclass

from evm_deploy.errors import OptionError

# Dask waits for ever for an address that it cannot read.
ADDRESS = re.compile(r"(?:(?:tcp|tls|ws|wss|ucx|ucxx)://)?(?:\[[^\[\]\s]+\]|[^\[\]:/\s]+):\d{1,5}/?")
MOST_WORKERS = 1024  # processes: more is a slip of the hand, which the machine would not survive


@dataclass(frozen=True)
class EvaluateOptions:
    """Options of `evaluate`. Raises OptionError for a value that does not exist, or options that exclude each other."""

    checkpoint: str | os.PathLike[str] | None = None  # PyTorch as one more contender, and as the reference
    floor: float | None = None  # least top-1 of every bundle, a share: 0.9 is 90 %
    max_drop: float | None = None  # most points (per cent) of top-1 that a bundle may lose against the reference
    count: int | None = None  # how many images, a sample; None: all
    seed: int = 0  # of that sample
    library: bool = True  # our operators, where they are built
    every_way: bool = False  # each bundle in every way that this machine can run it, not in the best one only
    latency_runs: int = 30  # timed runs of each contender; 0: latency is left out
    workers: int | None = None  # processes on this machine
    cluster: str | None = None  # address of a Dask scheduler, such as tcp://host:8786
    shards: int | None = None  # parts of the images, each of which can be lost and retried
    out: str | os.PathLike[str] | None = None  # a folder for the report, with every confusion matrix

    def __post_init__(self) -> None:
        if self.floor is not None and not 0 <= self.floor <= 1:
            raise OptionError(f"the floor {self.floor} is not within 0 to 1.", "it is a share: write 0.9 for 90 %.")
        if self.max_drop is not None and not 0 <= self.max_drop <= 100:
            what = f"the greatest drop {self.max_drop} is not within 0 to 100 points."
            raise OptionError(what, "write 0.3 for three images in a thousand.")
        for name, least in (("count", 1), ("seed", 0), ("workers", 1), ("shards", 1), ("latency_runs", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                spelt = name.replace("_", " ")
                raise OptionError(f"{spelt} {value} is less than {least}.", f"give {least} or more, or leave it out.")
        if self.workers is not None and self.cluster is not None:
            raise OptionError("workers are of this machine, a cluster has its own.", "give --workers or --cluster.")
        if self.workers is not None and self.workers > MOST_WORKERS:
            raise OptionError(f"{self.workers} workers are too many for a machine.", f"give {MOST_WORKERS} at most.")
        if self.cluster is not None and not ADDRESS.fullmatch(self.cluster):
            raise OptionError(f"{self.cluster!r} is not the address of a cluster.", "write tcp://host:8786.")
        if self.shards is not None and not self.distributed:
            raise OptionError("shards need somebody to take them.", "give --workers or --cluster as well.")
        if self.every_way and not self.library:
            raise OptionError("every way includes the one with our operators.", "leave one of the two options out.")

    @property
    def distributed(self) -> bool:
        """Whether the images are shared out."""
        return self.workers is not None or self.cluster is not None
