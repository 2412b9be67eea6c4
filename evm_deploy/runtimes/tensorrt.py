"""TensorRT on a GPU; without a GPU, onnxruntime on the graph from which engines are built."""

import types
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from evm_deploy.bundle import Bundle
from evm_deploy.errors import BundleError, MissingToolError
from evm_deploy.exporters.tensorrt import engines, libraries
from evm_deploy.exporters.tensorrt.build import EngineRequest, make_logger
from evm_deploy.exporters.tensorrt.plugins import register_plugins
from evm_deploy.exporters.tensorrt.precision import RULES
from evm_deploy.exporters.tensorrt.shapes import choose_shapes
from evm_deploy.runtimes import Runner, Ways, onnxruntime

NO_GPU = "an engine runs only on an NVIDIA GPU, and there is none here"


def open_bundle(bundle: Bundle, *, library: bool = True) -> Runner:
    """Opens the bundle's engine on the GPU; if it has no engine for this library and GPU, builds one from the graph.

    library: ignored; the bundle was exported with or without our plugin.
    Raises MissingToolError without a GPU or TensorRT, BundleError for an engine that cannot be loaded.
    """
    return EngineRunner.of(bundle)


def find_ways(bundle: Bundle) -> Ways:
    """The ways of onnxruntime for the graph, and the engine if there is a GPU."""
    graph = onnxruntime.find_ways(bundle)
    if libraries.has_gpu() and libraries.find_library().library is not None:
        return Ways((*graph.open, lambda: open_bundle(bundle)), graph.notes)
    return Ways(graph.open, (*graph.notes, _describe_unchecked(bundle)))


def find_obstacle_to_run() -> str | None:
    """`Runtime.find_obstacle_to_run`."""
    return None if libraries.has_gpu() else "engines run on a GPU, and there is none"


find_obstacle_to_time = find_obstacle_to_run


def _describe_unchecked(bundle: Bundle) -> str:
    """Describes what could not be verified of an engine here, and what was verified."""
    reason = NO_GPU if not libraries.has_gpu() else "; ".join(libraries.find_library().reasons)
    facts = _get_facts(bundle)
    engine = facts.get("engine")
    if not isinstance(engine, dict):
        why = f" ({facts['not_built']})" if isinstance(facts.get("not_built"), str) else ""
        return f"{reason}: the graph was run by onnxruntime, and no engine is in the bundle{why}"
    capabilities = ", ".join(_read_capabilities(engine))
    return (
        f"{reason}: the graph was run by onnxruntime; the engine for {capabilities} by {engine.get('library')} was not "
        f"run, its layers' precisions were checked when it was built (by the {engine.get('inspected_by')})"
    )


def _get_facts(bundle: Bundle) -> Mapping[str, Any]:
    return bundle.manifest.build or {}


def _read_capabilities(engine: Mapping[str, Any]) -> tuple[str, ...]:
    """The compute capabilities in the manifest, which may contain anything there."""
    said = engine.get("compute_capabilities")
    return tuple(map(str, said)) if isinstance(said, (list, tuple)) else ()


class EngineRunner:
    """An engine with its context, on a stream of its own."""

    untimed = None

    def __init__(self, trt: Any, engine: Any, device: str = "cuda") -> None:
        self.name = libraries.name_library(trt)
        self._device, self._engine, self._context = torch.device(device), engine, engine.create_execution_context()
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        self._inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        self._outputs = [name for name in names if name not in self._inputs]
        self._types = {
            name: torch.from_numpy(np.empty(0, trt.nptype(engine.get_tensor_dtype(name)))).dtype for name in names
        }
        self._stream = torch.cuda.Stream() if self._device.type == "cuda" else None

    @classmethod
    def of(cls, bundle: Bundle) -> "EngineRunner":
        """Opens the engine of a bundle."""
        if not libraries.has_gpu():
            raise MissingToolError(
                f"{NO_GPU}.", "run it on its device; to predict on this machine, export with `--target onnx`."
            )
        trt = libraries.find_library().require("running an engine")
        request = _make_request(bundle, trt)
        with register_plugins(trt, request):
            data, logger = _get_engine(bundle, trt, request), make_logger(trt)
            engine = trt.Runtime(logger).deserialize_cuda_engine(data)
        if engine is None:
            reason = (logger.errors() or ["it does not say why"])[0].splitlines()[0].rstrip(". ")
            what = f"{libraries.name_library(trt)} cannot load the engine of {bundle.path}: {reason}."
            raise BundleError(what, "export it again here.")
        runner = cls(trt, engine)
        runner.check(bundle)
        return runner

    def check(self, bundle: Bundle) -> None:
        """Raises BundleError unless the engine has the tensors that the manifest declares, of the same types."""
        declared = {spec.name: spec.dtype for spec in (*bundle.manifest.inputs, *bundle.manifest.model_outputs)}
        types = {name: str(self._types[name]).removeprefix("torch.") for name in (*self._inputs, *self._outputs)}
        if declared != types or self._inputs != [spec.name for spec in bundle.manifest.inputs]:
            found = ", ".join(f"{name} {kind}" for name, kind in types.items())
            raise BundleError(
                f"the engine of {bundle.path} is not what its manifest says: it has {found}.", "export it again."
            )
        self._outputs = [spec.name for spec in bundle.manifest.model_outputs]

    def run(self, image: npt.NDArray[np.generic]) -> list[npt.NDArray[np.float32]]:
        """The outputs for one batch. Raises BundleError for a shape that the engine was not built for."""
        (name,) = self._inputs
        given = torch.from_numpy(np.ascontiguousarray(image)).to(self._device)
        if not self._context.set_input_shape(name, tuple(given.shape)):
            raise BundleError(
                f"the engine was not built for {tuple(given.shape)}.", "export for that shape, or resize."
            )
        found = {
            output: torch.empty(
                tuple(self._context.get_tensor_shape(output)), dtype=self._types[output], device=self._device
            )
            for output in self._outputs
        }
        for tensor, memory in ({name: given} | found).items():
            self._context.set_tensor_address(tensor, memory.data_ptr())
        self._execute()
        return [found[output].float().cpu().numpy() for output in self._outputs]

    def _execute(self) -> None:
        """Runs the engine after the copy of the input, and waits until it has finished."""
        if self._stream is None:
            done = self._context.execute_async_v3(0)
        else:
            self._stream.wait_stream(torch.cuda.current_stream())
            done = self._context.execute_async_v3(self._stream.cuda_stream)
            self._stream.synchronize()
        if not done:
            raise BundleError("the engine failed on the GPU.", "export the model again on this machine.")

    def close(self) -> None:
        """Frees the engine."""
        del self._context, self._engine

    def __enter__(self) -> "EngineRunner":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()


def _make_request(bundle: Bundle, trt: Any) -> EngineRequest:
    facts, precision = _get_facts(bundle), bundle.manifest.precision
    if precision not in RULES:
        raise BundleError(f"precision {precision!r} is not known here.", "use a newer evm-deploy.")
    plugin, scans = facts.get("plugin") is True, facts.get("scans")
    return EngineRequest(
        bundle.read_model(),
        precision,
        choose_shapes(bundle.manifest),
        libraries.choose_capabilities((), trt),
        scans if isinstance(scans, int) else 0,
        plugin,
    )


def _get_engine(bundle: Bundle, trt: Any, request: EngineRequest) -> bytes:
    """The engine in the bundle if this library built it for this GPU; else one that is built now."""
    built = _get_facts(bundle).get("engine")
    here = "{}.{}".format(*torch.cuda.get_device_capability())
    if (
        isinstance(built, dict)
        and str(built.get("file")) in bundle.manifest.files
        and built.get("library") == libraries.name_library(trt)
        and here in _read_capabilities(built)
    ):
        return (bundle.path / str(built["file"])).read_bytes()
    return engines.get_engine(trt, request, lambda stage: None).data
