"""One runner a runtime: opened on a model, it turns an input array into the output arrays, and is closed."""

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from evm_deploy.bundle import Bundle
from evm_deploy.targets import target_of

PYTORCH = "PyTorch"  # what reports call it


class Runner(AbstractContextManager["Runner"], Protocol):
    """What verification, prediction and benchmarks ask of a runtime."""

    name: str

    @property
    def untimed(self) -> str | None:
        """Why its times say nothing of the runtime; None: they do."""
        ...

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
    """What the module of a runtime has.

    The first two raise BundleError for a model that is not what the manifest says.
    """

    def open_bundle(self, bundle: Bundle, *, library: bool) -> Runner:
        """The best way to run the bundle here; `library` uses our operators where they are built.

        Raises MissingToolError where this machine has no way.
        """
        ...

    def find_ways(self, bundle: Bundle) -> Ways:
        """Every way that this machine has."""
        ...

    def find_obstacle_to_run(self) -> str | None:
        """What this machine lacks to run such bundles at all, in words; None: nothing."""
        ...

    def find_obstacle_to_time(self) -> str | None:
        """What it lacks to tell how long they take."""
        ...


def find_runtime(bundle: Bundle) -> Runtime:
    """The module that runs the bundle's target. Raises BundleError for an unknown one."""
    return import_runtime(bundle.manifest.target)


def import_runtime(target: str) -> Runtime:
    """The module that runs bundles of a target. Raises BundleError for an unknown one."""
    return cast(Runtime, importlib.import_module(f"{__name__}.{target_of(target).runtime}"))
