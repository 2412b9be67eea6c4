"""The options of `benchmark`. This module imports little, since the command line reads it."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from evm_deploy.errors import OptionError, check_choice
from evm_deploy.exporters.export_options import ExportOptions, parse_image_size
from evm_deploy.options import check_ranges, option
from evm_deploy.profiling.profile_options import ProfileOptions
from evm_deploy.targets import TARGETS

Location = str | os.PathLike[str]


@dataclass(frozen=True)
class BenchmarkOptions:
    """Options of `benchmark`. Raises OptionError for a value that export or profile would refuse as well."""

    targets: tuple[str, ...] = field(  # (): all
        default=(), metadata=option(f"{', '.join(TARGETS)}; may be given again; all by default.", "--target", kind=list)
    )
    image_size: tuple[int, int] = field(  # (h, w)
        default=(224, 224),
        metadata=option("224, or 192x256 for height and width.", kind=str, default="224", parse=parse_image_size),
    )
    scan: str | None = field(default=None, metadata=option("es2d; ss2d: trained with the full cross-scan."))
    key: str | None = field(default=None, metadata=option("The entry of the checkpoint that holds the weights."))
    labels: Location | None = field(default=None, metadata=option("A text file with a class name a line.", kind=Path))
    data: Location | None = field(
        default=None, metadata=option("Images: int8 is calibrated on them, and with classes top-1 measured.")
    )
    calibration: Location | None = field(default=None, metadata=option("Images for int8, instead of some of --data."))
    samples: int = field(default=256, metadata=option("Images that int8 is calibrated on.", minimum=1))
    count: int | None = field(  # None: all
        default=None, metadata=option("Measure top-1 on a sample of so many images.", kind=int, minimum=1)
    )
    iterations: int = field(default=100, metadata=option("Timed runs of each form."))
    seconds: float | None = field(default=None, metadata=option("Time each form so long instead.", kind=float))
    warm_up: int = field(default=5, metadata=option("Least runs before times may be called steady."))
    threads: int = field(default=0, metadata=option("Of the runtimes; 0 leaves it to each."))
    every_way: bool = field(default=False, metadata=option("Each bundle with and without our operator library."))
    out: Path | None = field(  # None: both are gone afterwards
        default=None, metadata=option("A folder for the bundles and the report.", kind=Path)
    )
    html: Path | None = field(default=None, metadata=option("One HTML file that needs no network.", kind=Path))
    overwrite: bool = field(default=False, metadata=option("Replace what is at --out or --html."))

    def __post_init__(self) -> None:
        for name in self.targets:
            check_choice("target", name, TARGETS)
        check_ranges(self)
        if self.calibration is not None and self.data is None:
            raise OptionError("calibration images without --data.", "name them as --data: int8 is calibrated on those.")
        self.make_export_options(ExportOptions.target, ExportOptions.precision)
        self.make_profile_options(None)

    def make_export_options(self, target: str, precision: str) -> ExportOptions:
        """Makes the options of one export."""
        return ExportOptions(
            target=target,
            precision=precision,
            image_size=self.image_size,
            scan=self.scan,
            key=self.key,
            labels=self.labels,
        )

    def make_profile_options(self, checkpoint: Path | None) -> ProfileOptions:
        """Makes the options of the profile of all bundles."""
        return ProfileOptions(
            iterations=self.iterations,
            seconds=self.seconds,
            warm_up=self.warm_up,
            threads=self.threads,
            every_way=self.every_way,
            checkpoint=checkpoint,
        )
