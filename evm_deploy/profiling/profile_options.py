"""What `profile` can be asked for. Light: the command line reads its defaults from here."""

import math
from dataclasses import dataclass
from pathlib import Path

from evm_deploy.errors import OptionError


@dataclass(frozen=True)
class ProfileOptions:
    """How bundles are measured. Raises OptionError for values that no device can take.

    Every contender runs `iterations` times, or as often as fits into `seconds` where that is set.
    """

    device: str = "local"
    iterations: int = 100
    seconds: float | None = None  # of each contender, instead of iterations
    warm_up: int = 5  # least runs before it is asked whether times are steady
    threads: int = 0  # of the runtime; 0: as many as it chooses
    affinity: tuple[int, ...] = ()  # cores; none: where the system puts it
    provider: str = "cpu"  # onnxruntime's execution provider
    library: bool = True  # use our operators where they are built
    every_way: bool = False  # each bundle in every way that the device has
    operators: bool = False  # time by operator as well
    checkpoint: Path | None = None  # PyTorch beside the bundles; local only
    lan: bool = False  # browser: let other machines reach the page
    runner: Path | None = None  # adb: a command-line runner for the phone's processor
    app: Path | None = None  # adb: the built benchmark app (.apk)
    estimates: tuple[str, ...] = ()  # devices that are not here
    out: Path | None = None  # a folder for everything that the profile gives
    html: Path | None = None
    overwrite: bool = False
    timeout: float = 600.0  # seconds without a sign of life after which a remote device is given up

    def __post_init__(self) -> None:
        _within("--iterations", self.iterations, 2, 100_000)
        _within("--warm-up", self.warm_up, 1, 10_000)
        _within("--threads", self.threads, 0, 1024)
        _within("--timeout", self.timeout, 1, 86_400)
        if self.seconds is not None:
            _within("--seconds", self.seconds, 0.05, 3600)
        for core in self.affinity:
            _within("--affinity", core, 0, 4095)


def _within(name: str, value: float, least: float, most: float) -> None:
    if not (math.isfinite(value) and least <= value <= most):
        raise OptionError(f"{name} {value} is not within {least} to {most}.", f"choose {name} within it.")
