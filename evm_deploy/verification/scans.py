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
from evm_deploy.operators import DOMAIN, OPERATORS
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

    count: the scans of the graph; compared: those that PyTorch runs by the same operator, and not by what a pass made
    one of. where: the module, the runtime and the input of the worst.
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
    names = _repeat_without_skip(proto)
    if not names:
        return None
    outputs = len(proto.graph.output) - len(names)
    called = {title: _run_recording(model, image) for title, image in images.items()}
    known = {name for calls in called.values() for name, *_ in calls}
    worst = (0.0, "")
    for runtime in runtimes:
        with OnnxRunner(proto.SerializeToString(), library=runtime == LIBRARY) as runner:
            for title, image in images.items():
                left = list(called[title])
                for name, found in zip(names, runner.run(image)[outputs:], strict=True):
                    if name in known:
                        error, module = _take_nearest(name, found, left)
                        worst = max(worst, (error, f"the scan of {module} on {runtime} for {title}"))
    return ScanReport(len(names), sum(name in known for name in names), worst[0], tolerance, worst[1])


def _repeat_without_skip(proto: onnx.ModelProto) -> list[str]:
    """Adds to the graph, for each scan, the same scan with a D of 0, and its output. Returns the operators' names."""
    places = dict(SCANS.values())
    scans = [node for node in proto.graph.node if node.domain == DOMAIN and node.op_type in places]
    for i, scan in enumerate(scans):
        again, D, zeros = onnx.NodeProto(), scan.input[places[scan.op_type]], f"no_skip_{i}"
        again.CopyFrom(scan)
        again.name, again.input[places[scan.op_type]], again.output[0] = f"again_{i}", zeros, f"recurrence_{i}"
        proto.graph.node.extend([onnx.helper.make_node("Sub", [D, D], [zeros], name=zeros), again])
        proto.graph.output.append(onnx.helper.make_empty_tensor_value_info(again.output[0]))
    return [scan.op_type for scan in scans]


Call = tuple[str, str, Array]  # the operator, the innermost module, and the result without D


def _run_recording(model: nn.Module, image: Array) -> list[Call]:
    """The scans that the model runs."""
    record = _Recording()
    with torch.inference_mode(), follow_modules(model, record.running), record:
        model(torch.from_numpy(image))
    return record.found


def _take_nearest(name: str, found: Array, expected: list[Call]) -> tuple[float, str]:
    """The error and the module of the scan in `expected` that comes nearest, which is taken out."""
    fitting = [each for each in expected if each[0] == name and each[2].shape == found.shape]
    if not fitting:
        return float("inf"), "nothing in PyTorch"
    errors = [_measure(found, each[2]) for each in fitting]
    nearest = int(np.argmin(errors))
    expected.pop(next(i for i, each in enumerate(expected) if each is fitting[nearest]))
    return errors[nearest], fitting[nearest][1].removeprefix("model.") or "the network"


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
