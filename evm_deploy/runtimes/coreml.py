"""Core ML bundles: Apple's framework on macOS, and on every machine the saved program evaluated op by op."""

import importlib.util
import platform
import types
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from evm_deploy.bundle import Bundle
from evm_deploy.errors import BundleError
from evm_deploy.graph.scan_results import find_scans
from evm_deploy.runtimes import Runner, ScanResult, Ways, list_results
from evm_deploy.runtimes.apple import FrameworkRunner
from evm_deploy.runtimes.mil.blobs import Blobs
from evm_deploy.runtimes.mil.evaluate import Evaluator
from evm_deploy.runtimes.mil.interface import EntryPoint, choose_entry_point, find_entry_points
from evm_deploy.runtimes.mil.program import read_model

NOT_HERE = "the program was evaluated op by op; Core ML itself was not run, because this is not macOS"
UNTIMED = "Core ML runs on macOS only; evaluated op by op, as here, its program has no latency"


def open_bundle(bundle: Bundle, *, library: bool = True) -> Runner:
    """The best runner here of the bundle's model: Core ML on macOS, else the evaluator. `library` changes nothing.

    Raises BundleError: the package has other inputs or outputs than the manifest declares, is damaged, or is for
    another target. MissingToolError: coremltools is not installed.
    """
    return find_ways(bundle).open[0]()


def find_ways(bundle: Bundle) -> Ways:
    """Core ML where this is macOS, with its plan as a note, and the evaluator. Raises what `open_bundle` raises."""
    scans = (lambda: open_evaluator(bundle),)
    if platform.system() != "Darwin":
        return Ways((lambda: open_evaluator(bundle),), (NOT_HERE,), scans)
    return Ways((lambda: open_core_ml(bundle), lambda: open_evaluator(bundle)), (_describe_plan(bundle),), scans)


def find_obstacle_to_run() -> str | None:
    """`Runtime.find_obstacle_to_run`."""
    return None if importlib.util.find_spec("coremltools") else "coremltools is not installed"


def find_obstacle_to_time() -> str | None:
    """`Runtime.find_obstacle_to_time`."""
    return None if platform.system() == "Darwin" else "Core ML runs on macOS"


def _describe_plan(bundle: Bundle) -> str:
    with open_core_ml(bundle) as runner:
        try:
            counts = runner.compute_plan()
        except BundleError as error:
            return f"where Core ML runs the operations is not known: {error.cause}"
    return "operations as Core ML plans them: " + ", ".join(f"{device} {count}" for device, count in counts.items())


def open_core_ml(bundle: Bundle, units: str = "ALL") -> FrameworkRunner:
    """The model on Core ML. Raises what `open_bundle` raises."""
    return FrameworkRunner(bundle.model_path, find_entry_points(read_model(bundle.model_path), bundle.manifest), units)


def open_evaluator(bundle: Bundle) -> "EvaluatorRunner":
    """The model evaluated op by op. Raises what `open_bundle` raises."""
    model = read_model(bundle.model_path)
    return EvaluatorRunner(find_entry_points(model, bundle.manifest), Blobs(model.folder))


class EvaluatorRunner:
    """Evaluates the function of the package that takes the image's size, with PyTorch on the CPU."""

    name = "mil evaluator"
    untimed = UNTIMED

    def __init__(self, entries: Sequence[EntryPoint], blobs: Blobs) -> None:
        self._entries, self._blobs = entries, blobs
        self._evaluators = {entries[0].function.name: Evaluator(entries[0].function, blobs)}

    def run(self, image: npt.NDArray[np.generic]) -> list[npt.NDArray[np.float32]]:
        """The outputs, in the order of the manifest, for float32 (1, 3, H, W) or, baked, uint8 (1, H, W, 3).

        Raises BundleError: the package takes no image of this size, or its program cannot be evaluated.
        """
        entry = choose_entry_point(self._entries, image)
        found = self._run(entry, image)
        values = [found[f.name][None] if f.kind == "dictionary" else found[f.name] for f in entry.outputs]
        return [(value.float() if value.is_floating_point() else value).numpy() for value in values]

    def run_scans(self, image: npt.NDArray[np.generic]) -> list[ScanResult]:
        """`ScanRunner.run_scans`, as far as the program still names what its scans give."""
        entry = choose_entry_point(self._entries, image)
        scans = find_scans(value.name for operation in entry.function.operations for value in operation.outputs)
        names = [name for scan in scans for name in scan.names]
        found = {name: y.float().numpy() for name, y in self._run(entry, image, names).items()}
        return list_results(scans, found)

    def _run(
        self, entry: EntryPoint, image: npt.NDArray[np.generic], inner: Sequence[str] = ()
    ) -> dict[str, torch.Tensor]:
        name = entry.function.name
        if name not in self._evaluators:
            self._evaluators[name] = Evaluator(entry.function, self._blobs)
        x = torch.tensor(image)  # a copy: a program may hand its input on
        x = x.permute(0, 3, 1, 2).contiguous() if entry.input.kind == "image" else x
        return self._evaluators[name].run({entry.input.name: x}, inner)

    def close(self) -> None:
        """Frees the constants."""
        self._evaluators.clear()

    def __enter__(self) -> "EvaluatorRunner":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()
