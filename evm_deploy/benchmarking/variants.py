"""Every form that a checkpoint can be deployed in, and what this machine can do with each."""

import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from evm_deploy.exporters.export_options import TARGETS

INT8 = "int8"
NO_DATA = "int8 needs images: --data"


@dataclass(frozen=True)
class Variant:
    """A target and a precision."""

    target: str
    precision: str

    @property
    def name(self) -> str:
        """Of its bundle's folder."""
        return f"{self.target}-{self.precision}"


@dataclass(frozen=True)
class Here:
    """What this machine lacks: why bundles of a target cannot be made here, and why they cannot be timed; None: they
    can.
    """

    made: Callable[[], str | None]
    timed: Callable[[], str | None]


def _nothing() -> str | None:
    return None


def _coremltools() -> str | None:
    return None if importlib.util.find_spec("coremltools") else "coremltools is not installed"


def _macos() -> str | None:
    return None if sys.platform == "darwin" else "Core ML runs on macOS"


def _gpu() -> str | None:
    from evm_deploy.exporters.tensorrt.libraries import gpu

    return None if gpu() else "engines run on a GPU, and there is none"


HERE = {
    "onnx": Here(_nothing, _nothing),
    "coreml": Here(_coremltools, _macos),
    "tensorrt": Here(_gpu, _gpu),
}


def variants(targets: Sequence[str]) -> Iterator[Variant]:
    """All forms for these targets, or for all where none is named; of a target int8 comes last, as it needs fp32."""
    for target, row in TARGETS.items():
        if not targets or target in targets:
            yield from (Variant(target, precision) for precision in (*row.precisions, INT8))


def hindrance(variant: Variant, data: bool) -> str | None:
    """Why the variant is not made here; None: it is. data: whether there are images to calibrate on.

    A Core ML program is calibrated by an evaluator that takes seconds an image: not where it cannot be timed either.
    """
    here = HERE[variant.target]
    if reason := here.made():
        return reason
    if variant.precision != INT8:
        return None
    return here.timed() if data else NO_DATA
