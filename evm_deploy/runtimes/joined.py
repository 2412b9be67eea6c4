"""A model and the graph that follows it, as one: for targets that lack the operators of a detector's last steps."""

import functools
import types
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from evm_deploy.bundle import Bundle
from evm_deploy.runtimes import Runner, Runtime, Ways
from evm_deploy.runtimes.onnxruntime import TYPES, OnnxRunner


@dataclass(frozen=True)
class JoinedRuntime:
    """A `Runtime` of bundles with last steps of their own; `model` is that of their target."""

    model: Runtime

    def open_bundle(self, bundle: Bundle, *, library: bool) -> Runner:
        """`Runtime.open_bundle`."""
        return _join(bundle, lambda: self.model.open_bundle(bundle, library=library))

    def find_ways(self, bundle: Bundle) -> Ways:
        """`Runtime.find_ways`."""
        ways = self.model.find_ways(bundle)
        return replace(ways, open=tuple(functools.partial(_join, bundle, open_model) for open_model in ways.open))

    def find_obstacle_to_run(self) -> str | None:
        """`Runtime.find_obstacle_to_run`."""
        return self.model.find_obstacle_to_run()

    def find_obstacle_to_time(self) -> str | None:
        """`Runtime.find_obstacle_to_time`."""
        return self.model.find_obstacle_to_time()


def _join(bundle: Bundle, open_model: Callable[[], Runner]) -> "JoinedRunner":
    """Raises BundleError: the graph is not what the manifest says, or what `open_model` raises."""
    manifest = bundle.manifest
    steps = OnnxRunner(bundle.read_last_steps(), library=False)
    declared = [
        (spec.name, TYPES[spec.dtype]) for spec in (*manifest.inputs, *manifest.model_outputs, *manifest.outputs)
    ]
    steps.check_tensors(declared, f"what follows the model in {bundle.path}")
    return JoinedRunner(open_model(), steps)


class JoinedRunner:
    """Runs a model, and then what follows it on onnxruntime."""

    def __init__(self, model: Runner, steps: OnnxRunner) -> None:
        self._model, self._steps = model, steps
        self.name, self.untimed = model.name, model.untimed

    def run(self, image: npt.NDArray[np.generic]) -> list[npt.NDArray[np.float32]]:
        """The outputs of the manifest for one image."""
        return self._steps.run(image, *self._model.run(image))

    def close(self) -> None:
        """Frees both."""
        self._model.close()
        self._steps.close()

    def __enter__(self) -> "JoinedRunner":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()
