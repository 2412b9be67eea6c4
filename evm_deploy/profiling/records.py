"""Reads the runtime's profile of its runs, run by run in the order of its graph, and measures the cost of recording."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from evm_deploy.errors import BundleError
from evm_deploy.profiling.costs import Shape, Value
from evm_deploy.runtimes.onnxruntime import EXPORT_AGAIN, OnnxRunner, profile_graph

_SUFFIX = "_kernel_time"
_ITEMS = {"float": 4, "float16": 2, "double": 8, "uint8": 1, "int8": 1, "bool": 1, "int32": 4, "int64": 8, "uint32": 4}
CHAIN = 100  # nodes in the graph that measures the cost of recording


@dataclass(frozen=True)
class Record:
    """R runs of a graph with N nodes. Times are in milliseconds and include the cost of recording."""

    names: tuple[str, ...]
    starts: npt.NDArray[np.float64]  # (R, N), since the start of the run's first node
    times: npt.NDArray[np.float64]  # (R, N)
    wholes: npt.NDArray[np.float64]  # (R,)
    outputs: tuple[tuple[Value, ...], ...]  # the outputs of each node


@dataclass(frozen=True)
class Recording:
    """The time that the runtime takes to record a node, in milliseconds."""

    within: float  # the part inside the recorded time of the node
    between: float  # the part between the node and the next


def read_record(trace: Path, graph: onnx.GraphProto) -> Record:
    """Reads the record in `trace` of runs of `graph`. Raises BundleError: it is of another graph."""
    events = json.loads(trace.read_text(encoding="utf-8"))
    nodes = [event for event in events if event["name"].endswith(_SUFFIX)]
    wholes = [event["dur"] / 1e3 for event in events if event["name"] == "model_run"]
    count, runs = len(graph.node), len(wholes)
    first = nodes[:count]
    if (
        not runs
        or len(nodes) != count * runs
        or any(event["args"]["op_name"] != node.op_type for event, node in zip(first, graph.node, strict=True))
    ):
        raise BundleError("onnxruntime's profile does not match the graph that it wrote.", EXPORT_AGAIN)
    names = tuple(event["name"].removesuffix(_SUFFIX) for event in first)
    if any(event["name"].removesuffix(_SUFFIX) != names[index % count] for index, event in enumerate(nodes)):
        raise BundleError("onnxruntime ran its graph in a different order each time.", EXPORT_AGAIN)
    starts = np.array([event["ts"] for event in nodes], dtype=np.float64).reshape(runs, count) / 1e3
    times = np.array([event["dur"] for event in nodes], dtype=np.float64).reshape(runs, count) / 1e3
    outputs = tuple(tuple(map(_read_value, event["args"].get("output_type_shape", ()))) for event in first)
    return Record(names, starts - starts[:, :1], times, np.array(wholes), outputs)


def measure_recording_cost(folder: Path) -> Recording:
    """Measures the cost with a chain of trivial nodes, run in turns with and without recording."""
    chain = _make_chain().SerializeToString()
    image, plain = np.zeros(1, np.float32), []
    with OnnxRunner(chain, library=False, threads=1) as runner:

        def between() -> None:
            runner.run(image)
            start = time.perf_counter()
            runner.run(image)
            plain.append((time.perf_counter() - start) * 1e3)

        optimised, trace = profile_graph(chain, image, folder, library=False, runs=20, between=between)
    record = read_record(trace, onnx.load(optimised).graph)
    count = record.times.shape[1]
    alone, inside, whole = min(plain) / count, record.times.sum(1).min() / count, record.wholes.min() / count
    within = max(0.0, inside - alone)
    return Recording(float(within), float(max(0.0, whole - alone - within)))


def _make_chain() -> onnx.ModelProto:
    nodes = [helper.make_node("Sigmoid", [f"v{i}"], [f"v{i + 1}"], name=f"n{i}") for i in range(CHAIN)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("v0", f"v{CHAIN}")]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def _read_value(entry: dict[str, Any]) -> Value:
    ((kind, shape),) = entry.items()
    sides: Shape = tuple(map(int, shape))
    return Value(sides, _ITEMS.get(kind, 4))
