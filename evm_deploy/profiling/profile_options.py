"""What `profile` can be asked for. Light: the command line reads its defaults from here."""

from dataclasses import dataclass, field
from pathlib import Path

from evm_deploy.errors import OptionError
from evm_deploy.options import check_ranges, option
from evm_deploy.profiling.device_kinds import DEVICES


@dataclass(frozen=True)
class ProfileOptions:
    """How bundles are measured. Raises OptionError: a value that no device accepts.

    Every contender runs `iterations` times or, if `seconds` is set, as often as fits into them.
    """

    device: str = field(default="local", metadata=option(f"{', '.join(row.syntax for row in DEVICES.values())}."))
    iterations: int = field(default=100, metadata=option("Timed runs of each bundle.", minimum=2, maximum=100_000))
    seconds: float | None = field(
        default=None, metadata=option("Time each bundle so long instead.", kind=float, minimum=0.05, maximum=3600)
    )
    warm_up: int = field(
        default=5, metadata=option("Least runs before times may be called steady.", minimum=1, maximum=10_000)
    )
    threads: int = field(
        default=0, metadata=option("Of the runtime; 0 leaves it to the runtime.", minimum=0, maximum=1024)
    )
    affinity: tuple[int, ...] = field(  # (): where the system puts it
        default=(),
        metadata=option(
            "Cores to stay on, such as 0,1 or 4-7.",
            kind=str,
            default="",
            parse=lambda text: parse_cores(text),
            minimum=0,
            maximum=4095,
        ),
    )
    provider: str = field(default="cpu", metadata=option("onnxruntime's execution provider."))
    library: bool = field(default=True, metadata=option("Run without our operator library."))
    every_way: bool = field(default=False, metadata=option("Each bundle with and without our operator library."))
    operators: bool = field(default=False, metadata=option("Time by operator as well."))
    estimates: tuple[str, ...] = field(
        default=(),
        metadata=option("A device that is not here, to be estimated; may be given again.", "--estimate", kind=list),
    )
    checkpoint: Path | None = field(default=None, metadata=option("PyTorch beside the bundles.", kind=Path))
    lan: bool = field(default=False, metadata=option("browser: let other machines open the page."))
    runner: Path | None = field(
        default=None, metadata=option("adb: a command-line runner built for the phone.", kind=Path)
    )
    app: Path | None = field(default=None, metadata=option("adb: the benchmark app, built (.apk).", kind=Path))
    timeout: float = field(
        default=600.0, metadata=option("Seconds to wait for a silent device.", minimum=1, maximum=86_400)
    )
    out: Path | None = field(
        default=None, metadata=option("A folder for everything: JSON, HTML, Markdown, plots, traces.", kind=Path)
    )
    html: Path | None = field(default=None, metadata=option("One HTML file that needs no network.", kind=Path))
    overwrite: bool = field(default=False, metadata=option("Replace what is at --out or --html."))

    def __post_init__(self) -> None:
        check_ranges(self)


def parse_cores(text: str) -> tuple[int, ...]:
    """(0, 4, 5, 6) of `0,4-6`. Raises OptionError: anything else."""
    cores: list[int] = []
    for part in text.split(",") if text else []:
        first, dash, last = part.strip().partition("-")
        ends = (first, last if dash else first)
        numbers = all(end.isascii() and end.isdigit() and len(end) < 5 for end in ends)
        if not numbers or int(ends[0]) > int(ends[1]):
            raise OptionError(f"--affinity {text!r} is not a list of cores.", "write 0,1 or 4-7.")
        cores += range(int(ends[0]), int(ends[1]) + 1)
    return tuple(sorted(set(cores)))
