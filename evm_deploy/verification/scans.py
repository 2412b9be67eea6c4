"""Compares what the scans of a graph give with what they give in PyTorch: outputs may not show a lost recurrence.

D u passes by the recurrence, so each scan is run again without it, on the same inputs, in the graph and in PyTorch.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from evm_deploy.models.running import follow_modules
from evm_deploy.operators import DOMAIN, OPERATORS, selective_scan
from evm_deploy.runtimes.onnxruntime import LIBRARY, OnnxRunner

Array = npt.NDArray[Any]
# The scans that a network calls, by the torch operator: the operator's name, and the place of D.
SCANS = {
    operator.torch_op(): (operator.name, operator.place(operator.skip))
    for operator in OPERATORS.values()
    if operator.torch_op is not None and operator.skip is not None
}


@dataclass(frozen=True)
class ScanReport:
    """How far the recurrences are from PyTorch's: as a share of the largest value of each, the worst of all.

    count: the scans of the graph; compared: those that PyTorch runs by the same operator, or as selective scans that
    were put in an order. where: the module, the runtime and the input of the worst.
    """

    count: int
    compared: int
    relative: float
    tolerance: float
    where: str

    @property
    def passed(self) -> bool:
        """Whether the worst agrees."""
        return self.relative <= self.tolerance


def compare_scans(
    path: Path, model: nn.Module, images: Mapping[str, Array], runtimes: Collection[str], tolerance: float
) -> ScanReport | None:
    """Compares the scans of the file on the runtimes. None where it has no scan operators: they are written out.

    `model` is the module that was exported. A scan of it that has no part in the outputs is none of the file's.
    """
    proto = onnx.load(path)
    scans = _repeat_without_skip(proto)
    if not scans:
        return None
    outputs = len(proto.graph.output) - len(scans)
    called = {title: _run_recording(model, image) for title, image in images.items()}
    names = {name for calls in called.values() for name, *_ in calls}
    known = [bool(names & {scan.name, scan.made_of}) for scan in scans]
    worst = (0.0, "")
    for runtime in runtimes:
        with OnnxRunner(proto.SerializeToString(), library=runtime == LIBRARY) as runner:
            for title, image in images.items():
                left = list(called[title])
                for scan, found, compare in zip(scans, runner.run(image)[outputs:], known, strict=True):
                    if compare:
                        error, module = _take_nearest(scan, found, left)
                        worst = max(worst, (error, f"the scan of {module} on {runtime} for {title}"))
    return ScanReport(len(scans), sum(known), worst[0], tolerance, worst[1])


@dataclass(frozen=True, eq=False)
class _Scan:
    """A scan of the graph; where its order is constant, also that and which of its tokens are added up."""

    name: str
    order: Array | None = None  # (K, L)
    back: Array | None = None  # (M, T')

    @property
    def made_of(self) -> str:
        """The operator by which PyTorch may run it."""
        return self.name if self.back is None else selective_scan.OPERATOR.name

    def arrange(self, name: str, y: Array) -> Array | None:
        """What this scan gives where PyTorch's scan of this name gives y; None where they cannot be the same."""
        if name == self.name:
            return y
        if name != self.made_of or self.order is None or self.back is None or y.shape[1:3] != self.order.shape:
            return None
        added: Array = y.reshape(len(y), -1, y.shape[3])[:, self.back].sum(1)
        return added


def _read_scan(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> _Scan:
    operator = OPERATORS[node.op_type]
    names = [node.input[operator.place(name)] for name in ("order", "back") if name in operator.inputs]
    if not names or not constants.keys() >= set(names):
        return _Scan(node.op_type)
    return _Scan(node.op_type, *(onnx.numpy_helper.to_array(constants[name]) for name in names))


def _repeat_without_skip(proto: onnx.ModelProto) -> list[_Scan]:
    """Adds to the graph, for each scan, the same scan with a D of 0, and its output. Returns the scans."""
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    places = dict(SCANS.values())
    scans = [node for node in proto.graph.node if node.domain == DOMAIN and node.op_type in places]
    for i, scan in enumerate(scans):
        again, D, zeros = onnx.NodeProto(), scan.input[places[scan.op_type]], f"no_skip_{i}"
        again.CopyFrom(scan)
        again.name, again.input[places[scan.op_type]], again.output[0] = f"again_{i}", zeros, f"recurrence_{i}"
        proto.graph.node.extend([onnx.helper.make_node("Sub", [D, D], [zeros], name=zeros), again])
        proto.graph.output.append(onnx.helper.make_empty_tensor_value_info(again.output[0]))
    return [_read_scan(scan, constants) for scan in scans]


Call = tuple[str, str, Array]  # the operator, the innermost module, and the result without D


def _run_recording(model: nn.Module, image: Array) -> list[Call]:
    """The scans that the model runs."""
    record = _Recording()
    with torch.inference_mode(), follow_modules(model, record.running), record:
        model(torch.from_numpy(image))
    return record.found


def _take_nearest(scan: _Scan, found: Array, expected: list[Call]) -> tuple[float, str]:
    """The error and the module of the scan in `expected` that comes nearest, which is taken out."""
    errors = {}
    for i, (name, _, y) in enumerate(expected):
        arranged = scan.arrange(name, y)
        if arranged is not None and arranged.shape == found.shape:
            errors[i] = _measure(found, arranged)
    if not errors:
        return float("inf"), "nothing in PyTorch"
    nearest = min(errors, key=errors.__getitem__)
    module = expected.pop(nearest)[1]
    return errors[nearest], module.removeprefix("model.") or "the network"


def _measure(found: Array, expected: Array) -> float:
    """The largest difference as a share of the largest |expected|."""
    error = np.abs(found.astype(np.float32) - expected).max(initial=0) / np.abs(expected).max(initial=1e-30)
    return float(error) if np.isfinite(error) else float("inf")


class _Recording(TorchDispatchMode):
    """Runs every scan again without D."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.running: list[str] = []
        self.found: list[Call] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in SCANS:
            name, place = SCANS[func]
            given = [torch.zeros_like(a) if i == place and a is not None else a for i, a in enumerate(args)]
            y = func(*given, **(kwargs or {}))
            self.found.append((name, self.running[-1] if self.running else "", y.float().numpy()))
        return func(*args, **(kwargs or {}))
