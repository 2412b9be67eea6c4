"""From the operations of a function to steps that can be run: constants decoded, names resolved, last uses known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from evm_deploy.errors import BundleError
from evm_deploy.runtimes.mil.blobs import Blobs
from evm_deploy.runtimes.mil.literals import decode
from evm_deploy.runtimes.mil.ops import OPERATIONS
from evm_deploy.runtimes.mil.ops.row import Bound, Row
from evm_deploy.runtimes.mil.problems import damaged, shown
from evm_deploy.runtimes.mil.program import LARGEST_TENSOR, Function, Literal, Operation, Value

LARGEST_RANK = 5  # of what is computed: what Core ML takes
LARGEST_LIVE = 4 * LARGEST_TENSOR  # elements of all constants together, and of all results alive at a time


@dataclass(frozen=True)
class Step:
    """One operation, ready to run: its constants are converted, the rest goes by name."""

    operation: Operation
    row: Row
    constants: Mapping[str, Any]
    names: Mapping[str, tuple[str, ...]]  # of each parameter that is not constant
    last_uses: tuple[str, ...] = ()  # what nothing needs after this step

    @property
    def computes_sizes(self) -> bool:
        """Whether a parameter that decides about shapes is itself computed."""
        return not all(map(self.row.is_data, self.names))

    def run(self, arguments: Mapping[str, Any]) -> tuple[Tensor, ...]:
        """The results, which are as the program declares them. Raises BundleError, which names the operation."""
        try:
            results = self.row.call(arguments)
        except BundleError as error:
            raise self.problem(error) from error
        outputs = self.operation.outputs
        if len(results) != len(outputs):
            raise damaged(f"{self.operation.place} has {len(results)} results, and declares {len(outputs)}")
        for output, result in zip(outputs, results, strict=True):
            _check_declared(self.operation, output, result)
        return results

    def problem(self, error: BundleError) -> BundleError:
        """The error, with the name of the operation."""
        return damaged(f"{self.operation.place}: {error.cause.rstrip('.')}")


@dataclass(frozen=True)
class Plan:
    """A function's steps in order, and its constants, those that are made from compressed ones too."""

    steps: tuple[Step, ...]
    constants: Mapping[str, Bound]


@dataclass
class _Planner:
    """What is known while the operations are read in order."""

    blobs: Blobs
    defined: set[str]  # inputs and results
    constants: dict[str, Bound] = field(default_factory=dict)
    elements: int = 0  # of the constants
    steps: list[Step] = field(default_factory=list)

    def add(self, operation: Operation) -> None:
        for output in operation.outputs:
            if output.name in self.defined or output.name in self.constants:
                raise damaged(f"{operation.place} defines {shown(output.name)} again")
        if operation.kind == "const":
            self._define(operation.outputs[0].name, self._constant(operation))
            return
        step = self._step(operation)
        if not operation.is_constant:
            self.steps.append(step)
            self.defined |= {output.name for output in operation.outputs}
        elif step.names:
            raise damaged(f"{operation.place} is made from what is not constant")
        else:
            for output, value in zip(operation.outputs, step.run(step.constants), strict=True):
                self._define(output.name, value)

    def _constant(self, operation: Operation) -> Bound:
        value = operation.arguments.get("val", ())
        if len(value) != 1 or not isinstance(value[0], Literal) or len(operation.outputs) != 1:
            raise damaged(f"{operation.place} has no value")
        decoded = decode(value[0], self.blobs, operation.outputs[0].name)
        if isinstance(decoded, Tensor):
            _check_declared(operation, operation.outputs[0], decoded)
        return decoded

    def _define(self, name: str, value: Bound) -> None:
        """Counts as it goes: what is compressed is larger than the file, and many constants may share its data."""
        self.constants[name] = value
        self.elements += value.numel() if isinstance(value, Tensor) else 1
        if self.elements > LARGEST_LIVE:
            raise damaged(f"the constants have more than {LARGEST_LIVE} elements")

    def _step(self, operation: Operation) -> Step:
        row = OPERATIONS.get(operation.kind)
        if row is None:
            raise damaged(f"{operation.place} is an operation that is not supported")
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
        """The names of what is bound to the parameter; constants on the spot are given one."""
        names = []
        for place, argument in enumerate(operation.arguments[parameter]):
            if isinstance(argument, Literal):
                names.append(f"{operation.outputs[0].name if operation.outputs else ''}/{parameter}/{place}")
                self._define(names[-1], decode(argument, self.blobs, names[-1]))
            elif argument in self.defined or argument in self.constants:
                names.append(argument)
            else:
                raise damaged(f"its parameter {parameter!r} is {shown(argument)}, which is not defined before it")
        return tuple(names)


def plan(function: Function, blobs: Blobs) -> Plan:
    """Decodes the constants and checks that every operation is known and every name defined before it is used.

    Raises BundleError, which names the operation.
    """
    planner = _Planner(blobs, {value.name for value in function.inputs})
    for operation in function.operations:
        planner.add(operation)
    for name in function.outputs:
        if name not in planner.defined:
            raise damaged(f"function {shown(function.name)} gives {shown(name)}, which it does not compute")
    return Plan(_with_last_uses(planner.steps, function.outputs, planner.defined), planner.constants)


def _with_last_uses(steps: Sequence[Step], outputs: Sequence[str], defined: set[str]) -> tuple[Step, ...]:
    kept, reverse = set(outputs), []
    for step in reversed(steps):
        touched = {name for names in step.names.values() for name in names if name in defined}
        touched |= {output.name for output in step.operation.outputs}
        last = tuple(sorted(touched - kept))
        kept |= touched
        reverse.append(Step(step.operation, step.row, step.constants, step.names, last))
    return tuple(reversed(reverse))


def _check_declared(operation: Operation, output: Value, result: Tensor) -> None:
    """Raises BundleError unless the result is of the type that the program declares for it."""
    declared = output.type
    if declared is None or declared.dtype is None:  # a dictionary or a string: results of a classifier
        return
    if result.dtype != declared.dtype.torch or not declared.fits(result.shape):
        raise damaged(f"{operation.place} gives {result.dtype} {tuple(result.shape)}, and declares {declared}")
    if result.ndim > LARGEST_RANK and not operation.is_constant:
        raise damaged(f"{operation.place} has rank {result.ndim}; Core ML takes {LARGEST_RANK}")
