"""A function of an ML Program evaluated op by op, with PyTorch on the CPU.

Every operation is computed in float32, and its result rounded once, to nearest even, to the float16 that the program
declares for it. A device may round inside an operation as well, and adds up in another order.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from evm_deploy.errors import BundleError
from evm_deploy.runtimes.mil.blobs import Blobs
from evm_deploy.runtimes.mil.plan import LARGEST_LIVE, Step, plan
from evm_deploy.runtimes.mil.problems import damaged, shown
from evm_deploy.runtimes.mil.program import Function, Value, check_size


class Evaluator:
    """One function, with its constants in memory. Raises BundleError where it cannot be evaluated."""

    def __init__(self, function: Function, blobs: Blobs) -> None:
        self.function = function
        planned = plan(function, blobs)
        self._steps, self._constants = planned.steps, planned.constants
        self._checked: list[torch.Size] | None = None  # the inputs' shapes with which every step was checked

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The outputs by name. Of a classifier, the predicted label is given by its index, and the dictionary of
        probabilities as a tensor in the order of the labels.

        Raises BundleError: inputs that the function does not take, an operation that fails, or one whose result is not
        what the program declares.
        """
        values = self._bind(inputs)
        shapes = [tensor.shape for tensor in values.values()]
        live = sum(tensor.numel() for tensor in values.values())
        known = shapes == self._checked
        with torch.inference_mode(), _one_thread():
            for step in self._steps:
                arguments = self._arguments(step, values)
                if not known or step.computes_sizes:
                    live_after = live + _check_sizes(step, arguments)
                    if live_after > LARGEST_LIVE:
                        raise damaged(f"{step.operation.place} makes more than {LARGEST_LIVE} elements live")
                results = step.run(arguments)
                values |= {output.name: result for output, result in zip(step.operation.outputs, results, strict=True)}
                live += sum(result.numel() for result in results)
                for name in step.last_uses:
                    live -= values.pop(name).numel()
        self._checked = shapes
        return {name: values[name] for name in self.function.outputs}

    def _bind(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        function = self.function
        if set(inputs) != {value.name for value in function.inputs}:
            raise damaged(f"function {shown(function.name)} takes {', '.join(shown(v.name) for v in function.inputs)}")
        return {value.name: self._input(value, inputs[value.name]) for value in function.inputs}

    def _input(self, value: Value, given: Tensor) -> Tensor:
        declared, feature = value.type, self.function.features[value.name]
        if declared is None or declared.dtype is None or not declared.fits(given.shape):
            raise damaged(f"input {shown(value.name)} is {declared}, and was given {tuple(given.shape)}")
        if not feature.accepts(given.shape):
            raise damaged(f"input {shown(value.name)} does not take shape {tuple(given.shape)}")
        return given.to(declared.dtype.torch)

    def _arguments(self, step: Step, values: Mapping[str, Tensor]) -> dict[str, Any]:
        arguments = dict(step.constants)
        for parameter, names in step.names.items():
            bound = tuple(values[name] if name in values else self._constants[name] for name in names)
            try:
                arguments[parameter] = step.row.convert(parameter, bound)
            except BundleError as error:
                raise step.problem(error) from error
        return arguments


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """A thousand small operations wait for threads longer than they gain; and sums come in one order on any machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _check_sizes(step: Step, arguments: Mapping[str, Any]) -> int:
    """The elements of the step's results, found without computing them. Raises BundleError: one is too large."""
    shapes = {name: _shape_only(value) if step.row.is_data(name) else value for name, value in arguments.items()}
    results = step.run(shapes)
    for output, result in zip(step.operation.outputs, results, strict=True):
        check_size(result.shape, output.name)
    return sum(result.numel() for result in results)


def _shape_only(value: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
    """Tensors of the same shapes without data."""
    return value.to("meta") if isinstance(value, Tensor) else tuple(item.to("meta") for item in value)
