"""What the plugins of both kinds share: the operators as the kernels know them, and their nodes in the graph."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx

from evm_deploy.cuda.plan import LaunchPlan, plan_efficient_scan_2d, plan_selective_scan
from evm_deploy.operators import DOMAIN, is_scan

VERSION = "1"  # of the plugins

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Operator:
    """An operator with a plugin: y is like its first input.

    states: the inputs that are float32 in every precision; the others are of the type of the first.
    plan: of the inputs' shapes, the attribute, the type of the first input, and the GPU's multiprocessors.
    """

    name: str
    inputs: tuple[str, ...]
    states: tuple[str, ...]
    attribute: str
    plan: Callable[[Sequence[Shape], int, str, int], LaunchPlan]

    def is_state(self, place: int) -> bool:
        """Whether the tensor at `place`, inputs first, is float32 in every precision."""
        return place < len(self.inputs) and self.inputs[place] in self.states


def _plan_selective_scan(shapes: Sequence[Shape], delta_softplus: int, dtype: str, sm_count: int) -> LaunchPlan:
    (batch, K, L, D), N = shapes[0], shapes[2][1]
    return plan_selective_scan(batch, K, L, D, N, dtype, sm_count, softplus=bool(delta_softplus))


def _plan_efficient_scan_2d(shapes: Sequence[Shape], step: int, dtype: str, sm_count: int) -> LaunchPlan:
    (batch, H, W, D), (K, R, _), N = shapes[0], shapes[2], shapes[4][1]
    return plan_efficient_scan_2d(batch, H, W, D, K, N, R, step, dtype, sm_count)


SELECTIVE_SCAN = Operator(
    "SelectiveScan",
    ("u", "delta", "A", "B", "C", "D", "delta_bias"),
    ("A", "D", "delta_bias"),
    "delta_softplus",
    _plan_selective_scan,
)
EFFICIENT_SCAN_2D = Operator(
    "EfficientScan2D",
    ("x", "x_proj", "dt_proj", "dt_bias", "A", "D"),
    ("dt_bias", "A", "D"),
    "step",
    _plan_efficient_scan_2d,
)
OPERATORS = (SELECTIVE_SCAN, EFFICIENT_SCAN_2D)
# The sizes among a kernel's arguments are these axes of the first input: K, L, D of u, or H, W, D of x.
SIZES = (1, 2, 3)


def mark(proto: onnx.ModelProto) -> int:
    """Notes on every node that scans which plugin may take it; returns how many there are. Other runtimes skip it."""
    nodes = [node for node in proto.graph.node if is_scan(node)]
    for node in nodes:
        there = {attribute.name for attribute in node.attribute}  # of a graph that was marked before
        for name, value in (("plugin_namespace", DOMAIN), ("plugin_version", VERSION), ("aot", 1)):
            if name not in there:
                node.attribute.append(onnx.helper.make_attribute(name, value))
    return len(nodes)


def without_bodies(graph: bytes) -> bytes:
    """The model without the functions of the operators that have a plugin."""
    proto = onnx.load_from_string(graph)
    kept = [body for body in proto.functions if (body.domain, body.name) not in {(DOMAIN, op.name) for op in OPERATORS}]
    del proto.functions[:]
    proto.functions.extend(kept)
    changed: bytes = proto.SerializeToString()
    return changed
