"""Core AI on the CPU: Apple's own runtime, which coreai-core brings to Linux and macOS."""

import asyncio
import contextlib
import importlib.util
import tempfile
import types
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evm_deploy.bundle import Bundle
from evm_deploy.errors import BundleError, EvmDeployError, OutputError, first_line
from evm_deploy.exporters.coreai.outputs import find_named, set_outputs
from evm_deploy.graph.scan_results import find_scans
from evm_deploy.optional import import_library
from evm_deploy.runtimes import Runner, ScanResult, Ways, list_results
from evm_deploy.runtimes.aimodel import FIX, divert_stderr, find_broken_rules, open_asset, read_operations
from evm_deploy.tasks import IOSpec

NOT_A_DEVICE = "Apple's runtime ran the program on this CPU; on a GPU or Neural Engine it was not run"
RULES_KEPT = "its operations are such as a Neural Engine takes: at most 5 axes, fixed shapes, no float64"


def open_bundle(bundle: Bundle, *, library: bool = True) -> Runner:
    """The bundle's model. `library` changes nothing: Core AI has no operators of ours.

    Raises BundleError: it is damaged, or has other inputs or outputs than the manifest declares. MissingToolError:
    coreai-core is not installed.
    """
    runner, manifest = CoreAiRunner(bundle.model_path), bundle.manifest
    try:
        runner.check(manifest.inputs, manifest.model_outputs)
    except BundleError:
        runner.close()
        raise
    return runner


def find_ways(bundle: Bundle) -> Ways:
    """The one way that there is. Raises what `open_bundle` raises."""
    asset = open_asset(bundle.model_path)
    broken = find_broken_rules(read_operations(asset))
    rules = f"no Neural Engine takes it: {'; '.join(broken)}" if broken else RULES_KEPT
    scans = (lambda: CoreAiScans(bundle.model_path),) if find_named(asset.program) else ()
    return Ways((lambda: open_bundle(bundle),), (NOT_A_DEVICE, rules), scans)


def find_obstacle_to_run() -> str | None:
    """`Runtime.find_obstacle_to_run`."""
    return None if importlib.util.find_spec("coreai") else "coreai-core is not installed"


find_obstacle_to_time = find_obstacle_to_run


class CoreAiRunner:
    """A model compiled for the CPU. Raises what `open_bundle` raises."""

    name = "core ai"
    untimed = None

    def __init__(self, path: Path) -> None:
        asset = open_asset(path)
        # In a thread with a loop of its own: the caller may be inside of one, as in a notebook.
        self._path, self._loop, self._thread = path, asyncio.new_event_loop(), ThreadPoolExecutor(1)
        self._open = contextlib.AsyncExitStack()
        try:
            with _refuse(f"Core AI cannot load {path}"), divert_stderr():
                model = self._await(self._open.enter_async_context(asset.executable()))
                self._function = model.load_function(model.function_names[0])
        except BaseException:
            self.close()
            raise

    def check(self, inputs: Sequence[IOSpec], outputs: Sequence[IOSpec]) -> None:
        """Raises BundleError: the model has other inputs or outputs than these."""
        described = self._function.desc
        found = [(name, described.input_descriptor(name)) for name in described.input_names]
        found += [(name, described.output_descriptor(name)) for name in described.output_names]
        has = [(name, str(each.dtype), tuple(each.shape)) for name, each in found]
        if has != [(spec.name, spec.dtype, tuple(spec.shape)) for spec in (*inputs, *outputs)]:
            said = ", ".join(f"{name} {dtype} {shape}" for name, dtype, shape in has)
            raise BundleError(f"{self._path} is not what its manifest says: it has {said}.", FIX)

    def run(self, image: npt.NDArray[np.generic]) -> list[npt.NDArray[np.float32]]:
        """The outputs, in the order of the model, for one image. Raises BundleError: the model does not take it."""
        found = self.run_by_name(image)
        return [found[name] for name in self._function.desc.output_names]

    def run_by_name(self, image: npt.NDArray[np.generic]) -> dict[str, npt.NDArray[Any]]:
        """The same by their names."""
        described, make_array = self._function.desc, import_library("coreai.runtime", "coreai-core").NDArray
        with _refuse(f"Core AI cannot run the model on {image.dtype} {image.shape}"):
            given = {described.input_names[0]: make_array(np.ascontiguousarray(image))}
            found = self._await(self._function(given))
            return {name: np.array(value.numpy()) for name, value in found.items()}

    def _await(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self._thread.submit(self._loop.run_until_complete, coroutine).result()

    def close(self) -> None:
        """Frees the model. The runner cannot be used afterwards."""
        self._await(self._open.aclose())
        self._thread.shutdown()
        self._loop.close()

    def __enter__(self) -> "CoreAiRunner":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()


class CoreAiScans:
    """What the scans of a saved program give: it is run with these as its outputs. Raises what `open_bundle` raises."""

    name = CoreAiRunner.name

    def __init__(self, path: Path) -> None:
        program = open_asset(path).program
        values = find_named(program)
        self._scans = find_scans(values)
        set_outputs(program, values)
        with _refuse(f"Core AI cannot load the scans of {path}"), tempfile.TemporaryDirectory() as folder:
            program.save_asset(Path(folder) / path.name)
            self._runner = CoreAiRunner(Path(folder) / path.name)

    def run_scans(self, image: npt.NDArray[np.generic]) -> list[ScanResult]:
        """`ScanRunner.run_scans`."""
        found = self._runner.run_by_name(image)
        return list_results(self._scans, found)

    def close(self) -> None:
        """Frees the model."""
        self._runner.close()

    def __enter__(self) -> "CoreAiScans":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()


@contextlib.contextmanager
def _refuse(what: str) -> Iterator[None]:
    try:
        yield
    except EvmDeployError:
        raise
    except OSError as error:  # it compiles into a temporary folder
        fix = "free some space there, or set TMPDIR."
        raise OutputError(f"Core AI cannot write to {tempfile.gettempdir()}: {first_line(error)}.", fix) from error
    except Exception as error:  # RuntimeError of most faults, ValueError and KeyError of some
        raise BundleError(f"{what}: {first_line(error)}.", FIX) from error
