"""Time by operator, as onnxruntime runs a bundle on the CPU: the graph that it made, and its own record of it."""

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
from evm_deploy.profiling.origins import origins
from evm_deploy.profiling.records import Record, cost_of_recording, read
from evm_deploy.profiling.report import Operator, Operators, Roofline
from evm_deploy.profiling.roofline import least_ms
from evm_deploy.runtimes.onnxruntime import EXPORT_AGAIN, profiled
from evm_deploy.targets import target_of

WARM_UP = 3  # runs that do not count


def measure(
    bundle: Bundle, *, library: bool, threads: int = 1, runs: int = 20, roofline: Roofline | None = None
) -> Operators:
    """Runs the bundle's golden input under the runtime's profiler.

    library: with our operators; threads: 0 leaves their number to the runtime; roofline: of this machine with as many
    threads, for the least time of each operator. Times are means over the quieter half of the `runs`, less what
    recording costs: a few microseconds a node, which is much for networks that take less than a millisecond.
    Raises BundleError: it is no ONNX bundle, or cannot be run.
    """
    if not target_of(bundle.manifest.target).is_portable:
        what = f"{bundle.path} is for {bundle.manifest.target}: times by operator are those of onnxruntime"
        raise BundleError(f"{what}.", "name an ONNX bundle.")
    with tempfile.TemporaryDirectory() as name:
        folder, image = Path(name), bundle.sample().input
        files = profiled(bundle.model_path, image, folder, library=library, runs=runs + WARM_UP, threads=threads)
        optimised = onnx.load(files[0]).graph
        record, recording = read(files[1], optimised), cost_of_recording(folder)
    quiet = _quiet(record.wholes)
    times = np.maximum(record.times[quiet].mean(0) - recording.within, 0)
    cost_of_all = len(times) * (recording.within + recording.between)
    whole = max(float(record.wholes[quiet].mean()) - cost_of_all, float(times.sum()))
    return Operators(len(quiet), whole, tuple(_rows(bundle, optimised, record, times, quiet, roofline)), roofline)


def _quiet(wholes: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """The quieter half of the runs after the first few, shortest first."""
    counted = wholes[WARM_UP:]
    return np.argsort(counted, kind="stable")[: (len(counted) + 1) // 2] + WARM_UP


def _rows(
    bundle: Bundle,
    graph: onnx.GraphProto,
    record: Record,
    times: npt.NDArray[np.float64],
    quiet: npt.NDArray[np.intp],
    roofline: Roofline | None,
) -> Iterator[Operator]:
    bundled = onnx.load(bundle.model_path).graph
    places = origins(bundled, graph)
    values, total = _values(bundle, graph, record), float(times.sum()) or 1.0
    shown = quiet[len(quiet) // 2]
    starts, lengths = record.starts[shown], record.times[shown]
    for index, (node, origin) in enumerate(zip(graph.node, places, strict=True)):
        least = cost(node, values)
        yield Operator(
            name=record.names[index],
            op=f"evm::{node.op_type}" if node.domain == "evm" else node.op_type,
            kind=kind(node.op_type, origin.op),
            block=origin.block,
            ms=float(times[index]),
            share=float(times[index]) / total,
            flops=None if least is None else least.flops,
            bytes=None if least is None else least.bytes,
            roofline_ms=None if least is None or roofline is None else least_ms(least, roofline),
            span_ms=(float(starts[index]), float(starts[index] + lengths[index])),
        )


def _values(bundle: Bundle, graph: onnx.GraphProto, record: Record) -> dict[str, Value]:
    """Every tensor of the run by its name."""
    image = bundle.sample().input
    values = {graph.input[0].name: Value(image.shape, image.itemsize)}
    for tensor in graph.initializer:
        item = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize
        values[tensor.name] = Value(tuple(tensor.dims), item)
    for node, outputs in zip(graph.node, record.outputs, strict=True):
        names = [name for name in node.output if name]
        if len(names) < len(outputs):
            raise BundleError("onnxruntime's record is not of the graph that it wrote.", EXPORT_AGAIN)
        values |= dict(zip(names, outputs, strict=False))
    return values
