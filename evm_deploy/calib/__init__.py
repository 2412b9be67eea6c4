"""From a float bundle to an integer one: ranges, equalisation, placement, and what each layer costs."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from evm_deploy.targets import TARGETS

if TYPE_CHECKING:
    from evm_deploy.bundle import Bundle
    from evm_deploy.calib.quantize_options import QuantizeOptions
    from evm_deploy.data.samples import Samples


class Quantizer(Protocol):
    """What the quantiser of a target has."""

    def quantize(
        self,
        bundle: "Bundle",
        samples: "Samples",
        options: "QuantizeOptions",
        path: Path,
        progress: Callable[[str], None],
    ) -> dict[str, Any]:
        """Writes the integer model at `path`. Returns what the manifest is to say of the work: of the calibration
        under "calibration", the rest under `build`.
        """
        ...

    def check(self, bundle: "Bundle", source: "Bundle") -> dict[str, Any]:
        """Looks at what runs on integers in `bundle`, made of `source`. Returns what the manifest is to say of it,
        remarks under "notes". Raises CheckFailed: what was to run on integers does not.
        """
        ...


def find_quantizer(target: str) -> Quantizer:
    """The module that quantises bundles of a target of the table."""
    return cast(Quantizer, importlib.import_module(f"{__name__}.{TARGETS[target].quantizer}"))
