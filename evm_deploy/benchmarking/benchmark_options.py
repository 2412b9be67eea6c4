"""What can be asked of a benchmark. Light: the command line reads its defaults from here."""

import os
from dataclasses import dataclass
from pathlib import Path

from evm_deploy.errors import OptionError, check_choice
from evm_deploy.exporters.export_options import ExportOptions
from evm_deploy.profiling.profile_options import ProfileOptions
from evm_deploy.targets import TARGETS

Location = str | os.PathLike[str]


@dataclass(frozen=True)
class BenchmarkOptions:
    """Options of `benchmark`. Raises OptionError for a value that export or profile would refuse as well."""

    targets: tuple[str, ...] = ()  # of the exports; (): all
    image_size: tuple[int, int] = (224, 224)  # (h, w)
    scan: str | None = None  # as for export
    key: str | None = None  # as for export
    labels: Location | None = None  # a text file, a label a line
    data: Location | None = None  # images: int8 is calibrated on them, and with classes top-1 is measured on them
    calibration: Location | None = None  # images for int8, instead of some of `data`
    samples: int = 256  # images that int8 is calibrated on
    count: int | None = None  # images that top-1 is measured on, a sample; None: all
    iterations: int = 100  # timed runs of each contender
    seconds: float | None = None  # of each contender, instead of iterations
    warm_up: int = 5
    threads: int = 0  # of the runtimes; 0: as many as each chooses
    every_way: bool = False  # each bundle with and without our operator library
    out: Path | None = None  # a folder for the bundles and the report; None: both are gone afterwards
    html: Path | None = None  # one page
    overwrite: bool = False

    def __post_init__(self) -> None:
        for name in self.targets:
            check_choice("target", name, TARGETS)
        for name, least in (("samples", 1), ("count", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise OptionError(f"--{name} {value} is less than {least}.", f"give {least} or more, or leave it out.")
        if self.calibration is not None and self.data is None:
            raise OptionError("calibration images without --data.", "name them as --data: int8 is calibrated on those.")
        self.export(ExportOptions.target, ExportOptions.precision)
        self.profile(None)

    def export(self, target: str, precision: str) -> ExportOptions:
        """The options of one export."""
        return ExportOptions(
            target=target,
            precision=precision,
            image_size=self.image_size,
            scan=self.scan,
            key=self.key,
            labels=self.labels,
        )

    def profile(self, checkpoint: Path | None) -> ProfileOptions:
        """The options of the profile of all."""
        return ProfileOptions(
            iterations=self.iterations,
            seconds=self.seconds,
            warm_up=self.warm_up,
            threads=self.threads,
            every_way=self.every_way,
            checkpoint=checkpoint,
        )
