"""From a model to a file of a target: one module a target, loaded when its target is asked for."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from evm_deploy.targets import TARGETS

if TYPE_CHECKING:
    from evm_deploy.exporters.deployed import Source


class Exporter(Protocol):
    """What the exporter of a target has."""

    def write(self, source: "Source", path: Path, progress: Callable[[str], None]) -> dict[str, Any]:
        """Writes the model at `path`. Returns what the manifest is to say of the work, under `build`."""
        ...


def exporter_of(target: str) -> Exporter:
    """The module that writes models of a target of the table."""
    return cast(Exporter, importlib.import_module(f"{__name__}.{TARGETS[target].exporter}"))
