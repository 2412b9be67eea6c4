"""Turns the operations of a function into steps: decodes constants, resolves names, and finds last uses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from evm_deploy.errors import BundleError
from evm_deploy.runtimes.mil.blobs import Blobs
from evm_deploy.runtimes.mil.literals import decode
from evm_deploy.runtimes.mil.ops import OPERATIONS
from evm_deploy.runtimes.mil.ops.row import Bound, OperationRow
from evm_deploy.runtimes.mil.problems import make_package_error, quote
from evm_deploy.runtimes.mil.program import LARGEST_TENSOR, Function, Literal, MilValue, Operation

LARGEST_RANK = 5  # of computed values; the limit of Core ML
LARGEST_LIVE = 4 * LARGEST_TENSOR  # elements of all constants, and of all results in memory at the same time


@dataclass(frozen=True)
class Step:
    """One operation, ready to run: its constants are converted, its other parameters are names."""

    operation: Operation
    row: OperationRow
    constants: Mapping[str, Any]
    names: Mapping[str, tuple[str, ...]]  # the values of each parameter that is not constant
    last_uses: tuple[str, ...] = ()  # values that no later step needs

    @property
    def computes_sizes(self) -> bool:
        """Whether a parameter that determines shapes is itself computed."""
        return not all(map(self.row.is_data, self.names))

    def run(self, arguments: Mapping[str, Any]) -> tuple[Tensor, ...]:
        """Returns the results, checked against the program's types. Raises BundleError, which names the operation."""
        try:
            results = self.row.call(arguments)
        except BundleError as error:
            raise self.problem(error) from error
        outputs = self.operation.outputs
        if len(results) != len(outputs):
            raise make_package_error(f"{self.operation.place} has {len(results)} results, but declares {len(outputs)}")
        for output, result in zip(outputs, results, strict=True):
            _check_declared(self.operation, output, result)
        return results

    def problem(self, error: BundleError) -> BundleError:
        """Adds the name of the operation to the error."""
        return make_package_error(f"{self.operation.place}: {error.cause.rstrip('.')}")


@dataclass(frozen=True)
class Plan:
    """The steps of a function in order, and its constants, including decompressed ones."""

    steps: tuple[Step, ...]
    constants: Mapping[str, Bound]


@dataclass
class _Planner:
    """The state while the operations are read in order."""

    blobs: Blobs
    defined: set[str]  # inputs and results
    constants: dict[str, Bound] = field(default_factory=dict)
    elements: int = 0  # of the constants
    steps: list[Step] = field(default_factory=list)

    def add(self, operation: Operation) -> None:
        for output in operation.outputs:
            if output.name in self.defined or output.name in self.constants:
                raise make_package_error(f"{operation.place} defines {quote(output.name)} again")
        if operation.kind == "const":
            self._define(operation.outputs[0].name, self._constant(operation))
            return
        step = self._step(operation)
        if not operation.is_constant:
            self.steps.append(step)
            self.defined |= {output.name for output in operation.outputs}
        elif step.names:
            raise make_package_error(f"{operation.place} needs values that are not constant")
        else:
            for output, value in zip(operation.outputs, step.run(step.constants), strict=True):
                self._define(output.name, value)

    def _constant(self, operation: Operation) -> Bound:
        value = operation.arguments.get("val", ())
        if len(value) != 1 or not isinstance(value[0], Literal) or len(operation.outputs) != 1:
            raise make_package_error(f"{operation.place} has no value")
        decoded = decode(value[0], self.blobs, operation.outputs[0].name)
        if isinstance(decoded, Tensor):
            _check_declared(operation, operation.outputs[0], decoded)
        return decoded

    def _define(self, name: str, value: Bound) -> None:
        """Defines a constant and counts its elements: decompressed constants, and shared data, can exceed the file."""
        self.constants[name] = value
        self.elements += value.numel() if isinstance(value, Tensor) else 1
        if self.elements > LARGEST_LIVE:
            raise make_package_error(f"the constants have more than {LARGEST_LIVE} elements")

    def _step(self, operation: Operation) -> Step:
        row = OPERATIONS.get(operation.kind)
        if row is None:
            raise make_package_error(f"{operation.place} is not supported")
        constants, names = {}, {}
        try:
            row.check_names(frozenset(operation.arguments))
            for parameter in operation.arguments:
                bound = self._arguments(operation, parameter)
                if all(name in self.constants for name in bound):
                    values = tuple(self.constants[name] for name in bound)
                    constants[parameter] = row.convert(parameter, values)
                else:
                    names[parameter] = bound
        except BundleError as error:
            raise Step(operation, row, {}, {}).problem(error) from error
        return Step(operation, row, constants, names)

    def _arguments(self, operation: Operation, parameter: str) -> tuple[str, ...]:
        """The names of the values of a parameter; constants in the program itself get a name."""
        names = []
        for place, argument in enumerate(operation.arguments[parameter]):
            if isinstance(argument, Literal):
                names.append(f"{operation.outputs[0].name if operation.outputs else ''}/{parameter}/{place}")
                self._define(names[-1], decode(argument, self.blobs, names[-1]))
            elif argument in self.defined or argument in self.constants:
                names.append(argument)
            else:
                raise make_package_error(
                    f"its parameter {parameter!r} is {quote(argument)}, which is not defined before it"
                )
        return tuple(names)


def make_plan(function: Function, blobs: Blobs) -> Plan:
    """Decodes the constants, and checks that every operation is known and every name is defined before its use.

    Raises BundleError, which names the operation.
    """
    planner = _Planner(blobs, {value.name for value in function.inputs})
    for operation in function.operations:
        planner.add(operation)
    for name in function.outputs:
        if name not in planner.defined:
            raise make_package_error(f"function {quote(function.name)} gives {quote(name)}, which it does not compute")
    return Plan(_find_last_uses(planner.steps, function.outputs, planner.defined), planner.constants)


def _find_last_uses(steps: Sequence[Step], outputs: Sequence[str], defined: set[str]) -> tuple[Step, ...]:
    kept, reverse = set(outputs), []
    for step in reversed(steps):
        touched = {name for names in step.names.values() for name in names if name in defined}
        touched |= {output.name for output in step.operation.outputs}
        last = tuple(sorted(touched - kept))
        kept |= touched
        reverse.append(Step(step.operation, step.row, step.constants, step.names, last))
    return tuple(reversed(reverse))


def _check_declared(operation: Operation, output: MilValue, result: Tensor) -> None:
    """Raises BundleError: the result does not have the type that the program declares."""
    declared = output.type
    if declared is None or declared.dtype is None:  # a dictionary or string of a classifier
        return
    if result.dtype != declared.dtype.torch or not declared.fits(result.shape):
        raise make_package_error(
            f"{operation.place} gives {result.dtype} {tuple(result.shape)}, but declares {declared}"
        )
    if result.ndim > LARGEST_RANK and not operation.is_constant:
        raise make_package_error(f"{operation.place} has rank {result.ndim}; Core ML allows {LARGEST_RANK}")
