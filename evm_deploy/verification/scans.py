"""Compares what the scans of a model give with what they give in PyTorch: outputs may not show a lost recurrence.

D u passes by the recurrence and may be most of y: errors are shares of what is left of y without it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from evm_deploy.models.running import follow_modules
from evm_deploy.operators import OPERATORS, selective_scan
from evm_deploy.runtimes import ScanResult, ScanRunner

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

    count: the scans of the model; compared: those that PyTorch runs by the same operator, or as selective scans that
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


@dataclass(frozen=True)
class RecordedScan:
    """A scan that ran in PyTorch: its operator, the innermost module, y, and y without D u."""

    operator: str
    module: str
    y: Array
    recurrence: Array


def compare_scans(
    runners: Iterable[Callable[[], ScanRunner]], model: nn.Module, images: Mapping[str, Array], tolerance: float
) -> ScanReport | None:
    """Compares the scans in each runner. None where they have none whose results are known.

    `model` is the module that was exported. A scan of it that has no part in the outputs is none of the model's.
    """
    called = {title: _run_recording(model, image) for title, image in images.items()}
    known = {call.operator for calls in called.values() for call in calls}
    count, compared, worst = 0, 0, (0.0, "")
    for open_runner in runners:
        with open_runner() as runner:
            for title, image in images.items():
                left, results = list(called[title]), runner.run_scans(image)
                fitting = [result for result in results if known & {result.operator, _find_origin(result)}]
                count, compared = max(count, len(results)), max(compared, len(fitting))
                for result in fitting:
                    error, module = _take_nearest(result, left)
                    worst = max(worst, (error, f"the scan of {module} on {runner.name} for {title}"))
    return ScanReport(count, compared, worst[0], tolerance, worst[1]) if count else None


def _run_recording(model: nn.Module, image: Array) -> list[RecordedScan]:
    """The scans that the model runs."""
    record = _Recording()
    with torch.inference_mode(), follow_modules(model, record.running), record:
        model(torch.from_numpy(image))
    return record.found


def _take_nearest(result: ScanResult, expected: list[RecordedScan]) -> tuple[float, str]:
    """The error and the module of the scan in `expected` that comes nearest, which is taken out."""
    errors = {i: error for i, call in enumerate(expected) if (error := _measure(result, call)) is not None}
    if not errors:
        return float("inf"), "nothing in PyTorch"
    nearest = min(errors, key=errors.__getitem__)
    module = expected.pop(nearest).module
    return errors[nearest], module.removeprefix("model.") or "the network"


def _measure(result: ScanResult, call: RecordedScan) -> float | None:
    """The largest difference as a share of the largest |y| without D u; None where they cannot be the same scan."""
    (found, y), (_, recurrence) = (_arrange(result, call.operator, each) for each in (call.y, call.recurrence))
    if y.shape != found.shape:
        return None
    difference = found.astype(np.float32) - (y if result.skip else recurrence)
    error = np.abs(difference).max(initial=0) / np.abs(recurrence).max(initial=1e-30)
    return float(error) if np.isfinite(error) else float("inf")


def _find_origin(result: ScanResult) -> str:
    """The operator by which PyTorch may run the scan."""
    known = result.back is not None or result.groups is not None
    return selective_scan.OPERATOR.name if known else result.operator


def _arrange(result: ScanResult, operator: str, y: Array) -> tuple[Array, Array]:
    """What the scan gave and what it should have given, where PyTorch's scan by this operator gives y: of other shapes
    where they cannot be the same."""
    if operator == result.operator:
        return result.y, y
    if operator == _find_origin(result):
        if result.groups is not None:
            return result.groups[:, :, : y.shape[2]], y
        if result.order is not None and result.back is not None and y.shape[1:3] == result.order.shape:
            return result.y, y.reshape(len(y), -1, y.shape[3])[:, result.back].sum(1)
    return result.y, np.empty(0)


class _Recording(TorchDispatchMode):
    """Runs every scan again without D."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.running: list[str] = []
        self.found: list[RecordedScan] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        y = func(*args, **(kwargs or {}))
        if func in SCANS:
            name, place = SCANS[func]
            given = [torch.zeros_like(a) if i == place and a is not None else a for i, a in enumerate(args)]
            recurrence, module = func(*given, **(kwargs or {})), self.running[-1] if self.running else ""
            self.found.append(RecordedScan(name, module, y.float().numpy(), recurrence.float().numpy()))
        return y
