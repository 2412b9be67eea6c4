"""The runtime's record, read run by run; one of another graph is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import GraphProto, helper

from evm_deploy.errors import BundleError
from evm_deploy.profiling.costs import Value
from evm_deploy.profiling.records import measure_recording_cost, read_record

GRAPH = helper.make_graph([helper.make_node("Conv", ["x"], ["y"]), helper.make_node("Add", ["y"], ["z"])], "g", [], [])


def event(name: str, op: str, start: int, length: int, kind: str = "float") -> dict[str, Any]:
    shapes = {"output_type_shape": [{kind: [1, 4]}]}
    args = {"op_name": op, **shapes}
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": start, "dur": length, "args": args}


def run(start: int, first: str = "Conv", names: tuple[str, str] = ("conv", "add")) -> list[dict[str, Any]]:
    whole = {"cat": "Session", "name": "model_run", "ts": start - 5, "dur": 100, "args": {}}
    return [event(names[0], first, start, 30), event(names[1], "Add", start + 40, 20, "uint8"), whole]


def written(folder: Path, *events: dict[str, Any]) -> Path:
    path = folder / "trace.json"
    path.write_text(json.dumps([{"cat": "Session", "name": "session_initialization", "dur": 9}, *events]))
    return path


def record_of(folder: Path, *events: dict[str, Any], graph: GraphProto = GRAPH) -> Any:
    return read_record(written(folder, *events), graph)


def test_times_are_milliseconds_of_each_run(tmp_path: Path) -> None:
    record = record_of(tmp_path, *run(1000), *run(2000))
    assert record.names == ("conv", "add")
    assert record.times == pytest.approx(np.array([[0.03, 0.02]] * 2))
    assert record.starts == pytest.approx(np.array([[0.0, 0.04]] * 2))
    assert record.wholes.tolist() == [0.1, 0.1]
    assert record.outputs == ((Value((1, 4), 4),), (Value((1, 4), 1),))


def test_fences_between_nodes_are_no_nodes(tmp_path: Path) -> None:
    fence = {"cat": "Node", "name": "conv_fence_before", "ts": 0, "dur": 0, "args": {"op_name": "Conv"}}
    assert record_of(tmp_path, fence, *run(1000)).times.shape == (1, 2)


@pytest.mark.parametrize(
    "events",
    [
        run(1000, first="MatMul"),
        run(1000)[1:],
        [*run(1000), *run(2000)[1:]],
        [*run(1000), *run(2000, names=("conv", "other"))],
        [],
    ],
)
def test_a_record_of_another_graph_is_refused(tmp_path: Path, events: list[dict[str, Any]]) -> None:
    with pytest.raises(BundleError, match="onnxruntime"):
        record_of(tmp_path, *events)


def test_recording_costs_something_but_far_less_than_a_millisecond(tmp_path: Path) -> None:
    recording = measure_recording_cost(tmp_path)
    assert 0 <= recording.within < 0.1
    assert 0 < recording.between < 0.1
