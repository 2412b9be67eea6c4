"""Measures the time by operator of a bundle on onnxruntime on the CPU, with the runtime's graph and profiler."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from evm_deploy.bundle import Bundle
from evm_deploy.errors import BundleError
from evm_deploy.profiling.costs import Value, cost
from evm_deploy.profiling.kinds import kind
from evm_deploy.profiling.origins import find_origins
from evm_deploy.profiling.records import Record, measure_recording_cost, read_record
from evm_deploy.profiling.report import Operators, Roofline, TimedOperator
from evm_deploy.profiling.roofline import compute_least_ms
from evm_deploy.runtimes.onnxruntime import EXPORT_AGAIN, profile_graph
from evm_deploy.targets import target_of

WARM_UP = 3  # runs that are ignored


def measure_operators(
    bundle: Bundle, *, library: bool, threads: int = 1, runs: int = 20, roofline: Roofline | None = None
) -> Operators:
    """Runs the bundle's golden input under the runtime's profiler.

    library: use our operators; threads: 0 lets the runtime choose; roofline: of this machine with the same number of
    threads, for the least time of each operator. Times are means over the faster half of the `runs`, without the
    cost of recording: a few microseconds per node, which matters for networks that take less than a millisecond.
    Raises BundleError: it is not an ONNX bundle, or cannot be run.
    """
    if not target_of(bundle.manifest.target).is_portable:
        what = f"{bundle.path} is for {bundle.manifest.target}: times by operator need onnxruntime"
        raise BundleError(f"{what}.", "name an ONNX bundle.")
    with tempfile.TemporaryDirectory() as name:
        folder, image = Path(name), bundle.sample().input
        files = profile_graph(bundle.read_model(), image, folder, library=library, runs=runs + WARM_UP, threads=threads)
        optimised = onnx.load(files[0]).graph
        record, recording = read_record(files[1], optimised), measure_recording_cost(folder)
    quiet = _choose_quiet_runs(record.wholes)
    times = np.maximum(record.times[quiet].mean(0) - recording.within, 0)
    cost_of_all = len(times) * (recording.within + recording.between)
    whole = max(float(record.wholes[quiet].mean()) - cost_of_all, float(times.sum()))
    return Operators(len(quiet), whole, tuple(_make_rows(bundle, optimised, record, times, quiet, roofline)), roofline)


def _choose_quiet_runs(wholes: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """The faster half of the runs after the warm-up, fastest first."""
    counted = wholes[WARM_UP:]
    return np.argsort(counted, kind="stable")[: (len(counted) + 1) // 2] + WARM_UP


def _make_rows(
    bundle: Bundle,
    graph: onnx.GraphProto,
    record: Record,
    times: npt.NDArray[np.float64],
    quiet: npt.NDArray[np.intp],
    roofline: Roofline | None,
) -> Iterator[TimedOperator]:
    bundled = onnx.load(bundle.model_path).graph
    places = find_origins(bundled, graph)
    values, total = _collect_values(bundle, graph, record), float(times.sum()) or 1.0
    shown = quiet[len(quiet) // 2]
    starts, lengths = record.starts[shown], record.times[shown]
    for index, (node, origin) in enumerate(zip(graph.node, places, strict=True)):
        least = cost(node, values)
        yield TimedOperator(
            name=record.names[index],
            op=f"evm::{node.op_type}" if node.domain == "evm" else node.op_type,
            kind=kind(node.op_type, origin.op),
            block=origin.block,
            ms=float(times[index]),
            share=float(times[index]) / total,
            flops=None if least is None else least.flops,
            bytes=None if least is None else least.bytes,
            roofline_ms=None if least is None or roofline is None else compute_least_ms(least, roofline),
            span_ms=(float(starts[index]), float(starts[index] + lengths[index])),
        )


def _collect_values(bundle: Bundle, graph: onnx.GraphProto, record: Record) -> dict[str, Value]:
    """Every tensor of the run, by name."""
    image = bundle.sample().input
    values = {graph.input[0].name: Value(image.shape, image.itemsize)}
    for tensor in graph.initializer:
        item = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize
        values[tensor.name] = Value(tuple(tensor.dims), item)
    for node, outputs in zip(graph.node, record.outputs, strict=True):
        names = [name for name in node.output if name]
        if len(names) < len(outputs):
            raise BundleError("onnxruntime's profile does not match the graph that it wrote.", EXPORT_AGAIN)
        values |= dict(zip(names, outputs, strict=False))
    return values
