"""Builds an engine from an ONNX graph, and checks that its layers have the requested precision."""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evm_deploy.errors import EvmDeployError, InputError
from evm_deploy.exporters.tensorrt import integer_products, layers, libraries, plugins, precision
from evm_deploy.exporters.tensorrt.interrupt import make_monitor, run_interruptibly
from evm_deploy.exporters.tensorrt.layers import EngineLayer
from evm_deploy.exporters.tensorrt.shapes import Profile

INSPECTOR, REPORT = "engine inspector", "builder's report of the engine"


@dataclass(frozen=True)
class EngineRequest:
    """An engine to build. `scans` is the number of the graph's nodes that scan."""

    graph: bytes  # ONNX
    precision: str
    profile: Profile
    capabilities: tuple[str, ...]
    scans: int
    plugin: bool = False


@dataclass(frozen=True)
class Engine:
    """An engine, its layers, how they were read (`inspected`), and the log of the build."""

    data: bytes
    layers: tuple[EngineLayer, ...]
    inspected: str
    log: str


def build_engine(trt: Any, request: EngineRequest, failed_log: Path | None = None) -> Engine:
    """Builds the engine. The network is checked before the build, and the engine's own layers after it.

    Raises InputError when the library cannot parse the graph or build it (the log is then written to `failed_log`),
    and CheckFailed when a layer does not have the requested precision. It can be interrupted.
    """
    logger = make_logger(trt)
    try:
        return run_interruptibly(lambda stop: _build(trt, logger, request, stop))
    except EvmDeployError as error:
        raise _add_log(error, failed_log, logger.text()) from error


def _build(trt: Any, logger: Any, request: EngineRequest, stop: threading.Event) -> Engine:
    with plugins.register_plugins(trt, request) as graph:
        builder, network = parse_graph(trt, logger, graph)
        parsed = layers.read_network(network)
        asked = request.precision
        products = integer_products.find_integer_products(request.graph) if asked in precision.INTEGERS else ()
        made = plugins.count_plugins(graph) if request.plugin else None
        precision.check_network(parsed, asked, scans=request.scans, plugins=made, where="the network")
        config = _make_config(trt, builder, request)
        config.progress_monitor = stops = make_monitor(trt, stop)
        data = builder.build_serialized_network(network, config)
        del stops  # the library only borrows it
        if data is None:
            raise _make_refusal(trt, "cannot build the engine", logger.errors())
        found, inspected = _inspect(trt, logger, bytes(data))
        where = f"the engine (by the {inspected})"
        precision.check_precision(found, asked, where=where)
        if products:
            precision.check_integers(found, products, where=where)
    return Engine(bytes(data), found, inspected, logger.text())


def parse_graph(trt: Any, logger: Any, graph: bytes) -> tuple[Any, Any]:
    """Parses a graph to a builder and a strongly typed network. Raises InputError, which names the node that failed."""
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph):
        raise _make_refusal(
            trt, "cannot read the graph", [_describe_error(parser.get_error(i)) for i in range(parser.num_errors)]
        )
    if not network.num_outputs:
        raise _make_refusal(trt, "cannot read the graph", ["it has no outputs"])
    return builder, network


def _describe_error(error: Any) -> str:
    """The message of the parser, and the node that it is about."""
    reason = (error.desc().splitlines() or ["no reason is given"])[0].rstrip(". ")
    named = error.node_name() or (f"number {error.node()}" if error.node() >= 0 else "")
    return f"{reason}, at the node {named} ({error.node_operator()})" if named else reason


def _make_refusal(trt: Any, what: str, reasons: list[str]) -> InputError:
    reason = (reasons or ["no reason is given"])[0].splitlines()[0].rstrip(". ")
    return InputError(
        f"{libraries.name_library(trt)} {what}: {reason}.", "use another version of TensorRT, or report this."
    )


def _add_log(error: EvmDeployError, path: Path | None, text: str) -> EvmDeployError:
    """Writes the log and names it in the error. Returns the error unchanged if there is no log or writing fails."""
    if path is None or not text:
        return error
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError:
        return error
    return type(error)(error.cause, f"{error.fix.rstrip('.')}; the whole log is in {path}.")


def _make_config(trt: Any, builder: Any, request: EngineRequest) -> Any:
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # needed to read the types of the layers
    config.clear_flag(trt.BuilderFlag.TF32)
    if request.profile.least != request.profile.most:
        shapes, wanted = builder.create_optimization_profile(), request.profile
        shapes.set_shape(wanted.input, wanted.least, wanted.best, wanted.most)
        config.add_optimization_profile(shapes)
    if hasattr(config, "set_compute_capability"):
        config.num_compute_capabilities = len(request.capabilities)
        for i, name in enumerate(request.capabilities):
            config.set_compute_capability(
                trt.ComputeCapability.__members__[libraries.shorten_capability(name).upper()], i
            )
    return config


def _inspect(trt: Any, logger: Any, data: bytes) -> tuple[tuple[EngineLayer, ...], str]:
    """Reads the layers with the inspector if a GPU can load the engine, else from the builder's log."""
    if libraries.has_gpu():
        engine = trt.Runtime(logger).deserialize_cuda_engine(data)
        if engine is not None:  # None: it is for another GPU
            return layers.read_engine(engine, trt), INSPECTOR
    return layers.read_report(logger.report()), REPORT


def make_logger(trt: Any) -> Any:
    """Makes a logger for the library that keeps its messages."""

    class Collector(trt.ILogger):  # type: ignore[misc]
        """Keeps all messages; of the verbose ones only the report of an engine's layers."""

        def __init__(self) -> None:
            super().__init__()
            self.records: list[tuple[str, str]] = []

        def log(self, severity: Any, message: str) -> None:
            if severity.name != "VERBOSE" or "LayerType:" in message:
                self.records.append((severity.name, message))

        def errors(self) -> list[str]:
            return [message for severity, message in self.records if severity in ("ERROR", "INTERNAL_ERROR")]

        def report(self) -> list[str]:
            return [line for _, message in self.records if "LayerType:" in message for line in message.splitlines()]

        def text(self) -> str:
            return "".join(f"[{severity}] {message.rstrip()}\n" for severity, message in self.records)

    return Collector()
