"""A runner for each runtime: it opens a model, computes the outputs of an input array, and is closed."""

import importlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
import numpy.typing as npt

from evm_deploy.bundle import Bundle
from evm_deploy.targets import target_of

if TYPE_CHECKING:
    from evm_deploy.graph.scan_results import NamedScan

PYTORCH, TORCH = "PyTorch", "pytorch"  # what reports call the model, and its runtime


class Runner(AbstractContextManager["Runner"], Protocol):
    """The interface of a runtime for verification, prediction and benchmarks."""

    name: str

    @property
    def untimed(self) -> str | None:
        """Why the times of this runner are meaningless; None if they are valid."""
        ...

    def run(self, image: npt.NDArray[np.generic]) -> list[npt.NDArray[np.float32]]:
        """The outputs for one batch."""
        ...

    def close(self) -> None:
        """Frees the model. The runner cannot be used afterwards."""
        ...


@dataclass(frozen=True)
class ScanResult:
    """What a scan of a model gave. skip: whether D u, which passes by the recurrence, is part of y.

    Of an OrderedScan, order (K, L) and back (M, T') where they are constant; or groups (B, K, L', D), what was added
    up, in which more may follow the L tokens.
    """

    operator: str
    y: npt.NDArray[np.generic]
    skip: bool
    order: npt.NDArray[np.int64] | None = None
    back: npt.NDArray[np.int64] | None = None
    groups: npt.NDArray[np.generic] | None = None


def list_results(scans: "Iterable[NamedScan]", found: Mapping[str, npt.NDArray[np.generic]]) -> list[ScanResult]:
    """What scans that are written out gave, of the values of their program by name."""
    return [
        ScanResult(scan.operator, found[scan.result], skip=True, groups=found[scan.groups] if scan.groups else None)
        for scan in scans
    ]


class ScanRunner(AbstractContextManager["ScanRunner"], Protocol):
    """A runner that gives what the scans of a model give, which is not among its outputs."""

    name: str

    def run_scans(self, image: npt.NDArray[np.generic]) -> list[ScanResult]:
        """Of one batch, in the order in which the scans run."""
        ...


@dataclass(frozen=True)
class Ways:
    """Every way in which this machine can run a bundle, each opened by a call, and notes on what it cannot check.

    scans: those of them that give the results of its scans too, where that takes no change of the model.
    """

    open: tuple[Callable[[], Runner], ...]
    notes: tuple[str, ...] = ()
    scans: tuple[Callable[[], ScanRunner], ...] = ()


class Runtime(Protocol):
    """The functions that the module of each runtime provides.

    The first two raise BundleError for a model that is not what the manifest says.
    """

    def open_bundle(self, bundle: Bundle, *, library: bool) -> Runner:
        """Opens the bundle in the best way that this machine has; `library` uses our operators if they are built.

        Raises MissingToolError if there is no way.
        """
        ...

    def find_ways(self, bundle: Bundle) -> Ways:
        """Every way that this machine has."""
        ...

    def find_obstacle_to_run(self) -> str | None:
        """Why this machine cannot run such bundles at all; None if it can."""
        ...

    def find_obstacle_to_time(self) -> str | None:
        """Why this machine cannot measure their latency; None if it can."""
        ...


def find_runtime(bundle: Bundle) -> Runtime:
    """What runs the bundle: its target's module, and what follows the model. Raises BundleError: an unknown target."""
    runtime = import_runtime(bundle.manifest.target)
    if bundle.manifest.last_steps is None:
        return runtime
    from evm_deploy.runtimes.joined import JoinedRuntime

    return JoinedRuntime(runtime)


def import_runtime(target: str) -> Runtime:
    """The module that runs models of a target. Raises BundleError for an unknown one."""
    return cast(Runtime, importlib.import_module(f"{__name__}.{target_of(target).runtime}"))
