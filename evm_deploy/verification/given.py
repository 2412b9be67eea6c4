"""Compares what the head gives with PyTorch: results may not show a small error, and may be none."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt
import onnx

from evm_deploy.bundle import Bundle
from evm_deploy.errors import BundleError
from evm_deploy.runtimes import Runner, import_runtime
from evm_deploy.runtimes.onnxruntime import EXPORT_AGAIN, OnnxRunner, list_forms
from evm_deploy.targets import target_of
from evm_deploy.tasks.agreement import Agreement, compare
from evm_deploy.verification.parity import ParityRow, merge_rows

Array = npt.NDArray[Any]
GIVEN = "what the head gives"
Finish = Callable[[Array, Sequence[Array]], Sequence[Array]]  # the results of an image and what was given for it


@dataclass(frozen=True)
class GivenReport:
    """A row for each runtime and image; and by these, what PyTorch's last steps make of what was given there."""

    rows: tuple[ParityRow, ...] = ()
    results: Mapping[str, Mapping[str, Sequence[Array]]] = field(default_factory=dict)


def open_heads(bundle: Bundle, names: Sequence[str]) -> Sequence[Callable[[], Runner]]:
    """What gives the outputs of the head, in every way of this machine; `names` are those that they have in a graph
    that goes on from there; of a model that is no graph nothing.

    Raises BundleError: the graph has no such value.
    """
    if bundle.manifest.last_steps is not None:
        return import_runtime(bundle.manifest.target).find_ways(bundle).open
    if not target_of(bundle.manifest.target).is_onnx_graph:
        return []
    proto = onnx.load_from_string(bundle.read_model())
    known = {name for node in proto.graph.node for name in node.output}
    if missing := [name for name in names if name not in known]:
        raise BundleError(f"the graph has no value {missing[0]}.", EXPORT_AGAIN)
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    graph = proto.SerializeToString()
    return [functools.partial(OnnxRunner, graph, library=library) for library in list_forms(bundle)]


def compare_given(
    heads: Iterable[Callable[[], Runner]],
    images: Mapping[str, Array],
    expected: Mapping[str, Sequence[Array]],
    tolerance: float,
    finish: Finish,
) -> GivenReport:
    """All that a head gives for an image, by its numbers."""
    rows, results = list[ParityRow](), dict[str, dict[str, Sequence[Array]]]()
    for open_head in heads:
        with open_head() as head:
            results[head.name] = {}
            for title, image in images.items():
                found = head.run(image)
                agreements = [_compare(*pair) for pair in zip(found, expected[title], strict=True)]
                parts = [
                    ParityRow(head.name, title, GIVEN, **dataclasses.asdict(each), passed=each.relative <= tolerance)
                    for each in agreements
                ]
                rows.append(dataclasses.replace(merge_rows(parts), input=title))
                results[head.name][title] = finish(image, found if rows[-1].passed else expected[title])
    return GivenReport(tuple(rows), results)


def _compare(found: Array, expected: Array) -> Agreement:
    if found.shape != expected.shape:
        return Agreement(float("inf"), float("inf"), 0.0, float("-inf"), None)
    return compare(found, expected, scores=False)
