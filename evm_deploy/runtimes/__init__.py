"""One runner a runtime: opened on a model, it turns an input array into the output arrays, and is closed."""

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from evm_deploy.bundle import Bundle
from evm_deploy.errors import BundleError
from evm_deploy.exporters.export_options import TARGETS


class Runner(AbstractContextManager["Runner"], Protocol):
    """What verification, prediction and benchmarks ask of a runtime."""

    name: str

    def run(self, image: npt.NDArray[np.generic]) -> list[npt.NDArray[np.float32]]:
        """The outputs for one batch."""
        ...

    def close(self) -> None:
        """Frees the model. The runner is of no use afterwards."""
        ...


@dataclass(frozen=True)
class Ways:
    """Every way in which this machine can run a bundle, each opened by a call, and what it cannot check and why."""

    open: tuple[Callable[[], Runner], ...]
    notes: tuple[str, ...] = ()


class Runtime(Protocol):
    """What the module of a runtime has. Both raise BundleError for a model that is not what the manifest says."""

    def open_bundle(self, bundle: Bundle, *, library: bool) -> Runner:
        """The best way to run the bundle here; `library` uses our operators where they are built.

        Raises MissingToolError where this machine has no way.
        """
        ...

    def ways(self, bundle: Bundle) -> Ways:
        """Every way that this machine has."""
        ...


def runtime_of(bundle: Bundle) -> Runtime:
    """The module that runs the bundle's target. Raises BundleError for an unknown one."""
    target = bundle.manifest.target
    if target not in TARGETS:
        raise BundleError(f"target {target!r} is not known here.", "use a newer evm-deploy.")
    return cast(Runtime, importlib.import_module(TARGETS[target].runtime))
