"""Quantisation: makes an int8 bundle from a float one."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from evm_deploy.errors import OptionError
from evm_deploy.targets import TARGETS

if TYPE_CHECKING:
    from evm_deploy.bundle import Bundle
    from evm_deploy.calib.quantize_options import QuantizeOptions
    from evm_deploy.data.samples import Samples


class Quantizer(Protocol):
    """The functions that the quantiser of each target provides."""

    def quantize(
        self,
        bundle: "Bundle",
        samples: "Samples",
        options: "QuantizeOptions",
        path: Path,
        progress: Callable[[str], None],
    ) -> dict[str, Any]:
        """Writes the integer model at `path`. Returns facts for the manifest: those of the calibration under
        "calibration"; all others go under `build`.
        """
        ...

    def check(self, bundle: "Bundle", source: "Bundle") -> dict[str, Any]:
        """Checks what runs on integers in `bundle`, which was made from `source`. Returns facts for the manifest, with
        remarks under "notes". Raises CheckFailed: something that should run on integers does not.
        """
        ...


def find_quantizer(target: str) -> Quantizer:
    """Imports the module that quantises bundles of a target. Raises OptionError: there is none."""
    module = TARGETS[target].quantizer
    if module is None:
        raise OptionError(f"there are no integer models for {target} here.", "quantize a bundle for another target.")
    return cast(Quantizer, importlib.import_module(f"{__name__}.{module}"))
