"""Lists the forms in which a checkpoint can be deployed, and which of them this machine can make."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evm_deploy.runtimes import import_runtime
from evm_deploy.targets import TARGETS

INT8 = "int8"
NO_DATA = "int8 needs images: --data"


@dataclass(frozen=True)
class Variant:
    """A target and a precision."""

    target: str
    precision: str

    @property
    def name(self) -> str:
        """The name of its bundle's folder."""
        return f"{self.target}-{self.precision}"


def list_variants(targets: Sequence[str]) -> Iterator[Variant]:
    """Lists all forms for these targets, or for all targets if none is named. int8 comes last, as it needs fp32."""
    for target, row in TARGETS.items():
        if not targets or target in targets:
            precisions = (*row.precisions, *([INT8] if row.quantizer else []))
            yield from (Variant(target, precision) for precision in precisions)


def find_obstacle(variant: Variant, data: bool) -> str | None:
    """Why the variant cannot be made here, or None. data: whether there are images to calibrate on.

    A Core ML program is calibrated by an evaluator that takes seconds for each image; this is skipped where the program
    cannot be timed either.
    """
    runtime = import_runtime(variant.target)
    if reason := runtime.find_obstacle_to_run():
        return reason
    if variant.precision != INT8:
        return None
    return runtime.find_obstacle_to_time() if data else NO_DATA
