"""OpenVINO on the CPU, which reads ONNX graphs of standard operators."""

import importlib.util
import itertools
import types
from typing import Any

import numpy as np
import numpy.typing as npt

from evm_deploy.bundle import Bundle
from evm_deploy.errors import BundleError, first_line
from evm_deploy.optional import import_library
from evm_deploy.runtimes import Runner, Ways, onnxruntime

OPENVINO = "openvino"


def open_bundle(bundle: Bundle, *, library: bool = True) -> Runner:
    """The bundle's model. `library` changes nothing: OpenVINO has no operators of ours.

    Raises BundleError: OpenVINO cannot load it, or it has other inputs or outputs than the manifest declares.
    MissingToolError: OpenVINO is not installed.
    """
    manifest = bundle.manifest
    runner = OpenVinoRunner(bundle.read_model())
    declared = [spec.name for spec in (*manifest.inputs, *manifest.model_outputs)]
    pairs = list(itertools.zip_longest(declared, runner.names, fillvalue=()))
    if any(name not in names for name, names in pairs):
        found = ", ".join(min(names, default="one without a name") for names in runner.names)
        what = f"the model in {bundle.path} is not what its manifest says: it has {found}."
        raise BundleError(what, onnxruntime.EXPORT_AGAIN)
    return runner


def find_ways(bundle: Bundle) -> Ways:
    """OpenVINO, after onnxruntime, which runs the same file."""
    graph = onnxruntime.find_ways(bundle)
    return Ways((*graph.open, lambda: open_bundle(bundle)), graph.notes)


def find_obstacle_to_run() -> str | None:
    """`Runtime.find_obstacle_to_run`."""
    return None if importlib.util.find_spec("openvino") else "openvino is not installed"


find_obstacle_to_time = find_obstacle_to_run


class OpenVinoRunner:
    """An ONNX model compiled for the CPU, in float32 where it is not in integers. Raises what `open_bundle` raises."""

    name = OPENVINO
    untimed = None

    def __init__(self, model: bytes) -> None:
        openvino = import_library("openvino")
        try:
            core = openvino.Core()
            self._model: Any = core.compile_model(core.read_model(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
            # a tensor has several where a conversion was left out
            self.names: list[set[str]] = [port.names for port in (*self._model.inputs, *self._model.outputs)]
        except Exception as error:  # it raises RuntimeError for all kinds of faults
            fix = "export the model with --target openvino."
            raise BundleError(f"OpenVINO cannot load the model: {_describe(error)}.", fix) from error

    def run(self, image: npt.NDArray[np.generic]) -> list[npt.NDArray[np.float32]]:
        """The outputs, in the order of the graph, for one batch. Raises BundleError: the model cannot be run on it."""
        try:
            found = self._model([image])
        except Exception as error:
            what = f"OpenVINO cannot run the model on {image.dtype} {image.shape}: {_describe(error)}."
            raise BundleError(what, onnxruntime.EXPORT_AGAIN) from error
        return [np.array(found[port]) for port in self._model.outputs]

    def count_products(self) -> tuple[int, int]:
        """Convolutions and matrix products that run on integers, and all."""
        kinds = [
            str(node.get_rt_info()["runtimePrecision"].value)
            for node in self._model.get_runtime_model().get_ops()
            if str(node.get_rt_info()["layerType"].value) in ("Convolution", "FullyConnected")
        ]
        return sum(kind in ("i8", "u8") for kind in kinds), len(kinds)

    def close(self) -> None:
        """Frees the model. The runner cannot be used afterwards."""
        del self._model

    def __enter__(self) -> "OpenVinoRunner":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()


def _describe(error: Exception) -> str:
    """The line that says what is missing, or the last: what comes before are places in OpenVINO's sources."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [first_line(error)]
    said = next((line.removeprefix("-- ") for line in lines if line.startswith("-- ")), lines[-1])
    return said.rstrip(".")
