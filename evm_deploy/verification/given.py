"""Compares what the head gives within a graph with PyTorch: results may not show a small error, and may be none."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy.typing as npt
import onnx

from evm_deploy.errors import BundleError
from evm_deploy.runtimes.onnxruntime import EXPORT_AGAIN, LIBRARY, OnnxRunner
from evm_deploy.tasks.agreement import Agreement, compare
from evm_deploy.verification.parity import ParityRow, merge_rows

Array = npt.NDArray[Any]
GIVEN = "what the head gives"


def compare_given(
    graph: bytes,
    names: Sequence[str],
    images: Mapping[str, Array],
    expected: Mapping[str, Sequence[Array]],
    runtimes: Collection[str],
    tolerance: float,
) -> tuple[ParityRow, ...]:
    """The values of these names in the graph by their numbers, together: a row for each runtime and image.

    Raises BundleError: the graph has no such value.
    """
    proto = onnx.load_from_string(graph)
    known = {name for node in proto.graph.node for name in node.output}
    if missing := [name for name in names if name not in known]:
        raise BundleError(f"the graph has no value {missing[0]}.", EXPORT_AGAIN)
    outputs = len(proto.graph.output)
    proto.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    rows = []
    for runtime in runtimes:
        with OnnxRunner(proto.SerializeToString(), library=runtime == LIBRARY) as runner:
            for title, image in images.items():
                agreements = map(_compare, runner.run(image)[outputs:], expected[title])
                parts = [
                    ParityRow(runtime, title, GIVEN, **dataclasses.asdict(each), passed=each.relative <= tolerance)
                    for each in agreements
                ]
                rows.append(dataclasses.replace(merge_rows(parts), input=title))
    return tuple(rows)


def _compare(found: Array, expected: Array) -> Agreement:
    if found.shape != expected.shape:
        return Agreement(float("inf"), float("inf"), 0.0, float("-inf"), None)
    return compare(found, expected, scores=False)
