"""Evaluates a function of an ML Program op by op, with PyTorch on the CPU.

Every operation is computed in float32, and its result is rounded once, to nearest even, to the float16 that the
program declares. A device may also round inside an operation, and may add in another order.
"""

import contextlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from evm_deploy.errors import BundleError
from evm_deploy.runtimes.mil.blobs import Blobs
from evm_deploy.runtimes.mil.plan import LARGEST_LIVE, Step, make_plan
from evm_deploy.runtimes.mil.problems import make_package_error, quote
from evm_deploy.runtimes.mil.program import Function, MilValue, check_size


class Evaluator:
    """Evaluates one function, whose constants are in memory. Raises BundleError: it cannot be evaluated."""

    def __init__(self, function: Function, blobs: Blobs) -> None:
        self.function = function
        planned = make_plan(function, blobs)
        self._steps, self._constants = planned.steps, planned.constants
        self._checked: list[torch.Size] | None = None  # the shapes of the inputs for which every step was checked

    def run(self, inputs: Mapping[str, Tensor], inner: Collection[str] = ()) -> dict[str, Tensor]:
        """Returns the outputs by name, and the values of the names `inner`. The predicted label of a classifier is an
        index, and its dictionary of probabilities is a tensor in the order of the labels.

        Raises BundleError: the function does not accept the inputs, an operation fails, or its result is not as the
        program declares.
        """
        values = self._bind(inputs)
        shapes = [tensor.shape for tensor in values.values()]
        live = sum(tensor.numel() for tensor in values.values())
        known = shapes == self._checked
        with torch.inference_mode(), _use_one_thread():
            for step in self._steps:
                arguments = self._arguments(step, values)
                if not known or step.computes_sizes:
                    live_after = live + _check_sizes(step, arguments)
                    if live_after > LARGEST_LIVE:
                        raise make_package_error(
                            f"{step.operation.place} brings the values in memory to more than {LARGEST_LIVE} elements"
                        )
                results = step.run(arguments)
                values |= {output.name: result for output, result in zip(step.operation.outputs, results, strict=True)}
                live += sum(result.numel() for result in results)
                for name in step.last_uses:
                    if name not in inner:
                        live -= values.pop(name).numel()
        self._checked = shapes
        return {name: values[name] for name in (*self.function.outputs, *inner)}

    def _bind(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        function = self.function
        if set(inputs) != {value.name for value in function.inputs}:
            raise make_package_error(
                f"function {quote(function.name)} takes {', '.join(quote(v.name) for v in function.inputs)}"
            )
        return {value.name: self._input(value, inputs[value.name]) for value in function.inputs}

    def _input(self, value: MilValue, given: Tensor) -> Tensor:
        declared, feature = value.type, self.function.features[value.name]
        if declared is None or declared.dtype is None or not declared.fits(given.shape):
            raise make_package_error(f"input {quote(value.name)} is {declared}, and was given {tuple(given.shape)}")
        if not feature.accepts(given.shape):
            raise make_package_error(f"input {quote(value.name)} does not take shape {tuple(given.shape)}")
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
def _use_one_thread() -> Iterator[None]:
    """Uses one thread: many small operations lose more time than they gain, and the order of sums must be fixed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _check_sizes(step: Step, arguments: Mapping[str, Any]) -> int:
    """Counts the elements of the step's results without computing them. Raises BundleError: one is too large."""
    shapes = {name: _drop_data(value) if step.row.is_data(name) else value for name, value in arguments.items()}
    results = step.run(shapes)
    for output, result in zip(step.operation.outputs, results, strict=True):
        check_size(result.shape, output.name)
    return sum(result.numel() for result in results)


def _drop_data(value: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
    """Tensors of the same shapes without data."""
    return value.to("meta") if isinstance(value, Tensor) else tuple(item.to("meta") for item in value)
