"""A saved ML Program as plain data: its description, functions, operations and types, read from the protobuf."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evm_deploy.optional import coremltools
from evm_deploy.runtimes.mil.dtypes import NUMBERED, DType
from evm_deploy.runtimes.mil.features import Feature, read_features
from evm_deploy.runtimes.mil.package_files import model_file
from evm_deploy.runtimes.mil.problems import damaged, line, shown

LARGEST_TENSOR = 1 << 28  # elements: one gigabyte of float32
LARGEST_RANK = 8  # of constants; what is computed has at most five dimensions
STRING = 2  # the number of the element type that no tensor of ours has


@dataclass(frozen=True)
class TensorType:
    """A tensor's element type (None: strings) and its sides (None: known when the program runs)."""

    dtype: DType | None
    shape: tuple[int | None, ...]

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether a tensor of this shape is of this type."""
        sides = zip(self.shape, shape, strict=False)
        return len(shape) == len(self.shape) and all(said in (None, side) for said, side in sides)

    def __str__(self) -> str:
        sides = ", ".join("?" if side is None else str(side) for side in self.shape)
        return f"{self.dtype.name if self.dtype else 'string'} ({sides})"


@dataclass(frozen=True)
class Value:
    """A name and what may be bound to it; `type` is None for dictionaries and lists."""

    name: str
    type: TensorType | None


@dataclass(frozen=True)
class Literal:
    """A constant as the file has it, not yet decoded: a `Value` message of the format."""

    message: Any

    @property
    def file(self) -> str | None:
        """The name of the weight file that holds it, if one does."""
        return str(self.message.blobFileValue.fileName) if self.message.HasField("blobFileValue") else None


Argument = str | Literal  # the name of a value, or a constant on the spot


@dataclass(frozen=True)
class Operation:
    """One operation. A parameter has one argument, or several where it takes a tuple of tensors."""

    kind: str
    arguments: Mapping[str, tuple[Argument, ...]]
    outputs: tuple[Value, ...]

    @property
    def is_constant(self) -> bool:
        """Whether it holds or decodes a constant, and computes nothing from the inputs."""
        return self.kind == "const" or self.kind.startswith("constexpr_")

    @property
    def place(self) -> str:
        """How errors speak of it."""
        return f"{shown(self.kind)} that makes {shown(self.outputs[0].name)}" if self.outputs else shown(self.kind)


@dataclass(frozen=True)
class Function:
    """One function of the program, and how the package describes its inputs and outputs to an app."""

    name: str
    inputs: tuple[Value, ...]
    operations: tuple[Operation, ...]
    outputs: tuple[str, ...]
    features: Mapping[str, Feature]  # of inputs and outputs, by name
    label: str | None  # the output that is the predicted class, in a classifier


@dataclass(frozen=True)
class Model:
    """A package that has been read; nothing of it has been run, and no weight looked at."""

    version: int
    functions: tuple[Function, ...]  # the default one first
    metadata: Mapping[str, str]
    folder: Path  # of the program's file, below which the weight files lie


def read_model(package: Path) -> Model:
    """Reads the package at `package`.

    Raises BundleError: it is no `.mlpackage` with an ML Program, or is damaged. MissingToolError: no coremltools.
    """
    path = model_file(package)
    message = _parse(path)
    if message.WhichOneof("Type") != "mlProgram":
        raise damaged(f"{package} holds no ML Program but {message.WhichOneof('Type') or 'nothing'}")
    description, functions = message.description, message.mlProgram.functions
    described = {entry.name: entry for entry in description.functions} or {"main": description}
    if not functions or set(described) != set(functions):
        raise damaged(f"{package} describes {len(described)} functions and has {len(functions)}, or others")
    default = description.defaultFunctionName or "main"
    names = sorted(described, key=lambda name: (name != default, name))
    return Model(
        message.specificationVersion,
        tuple(_function(name, functions[name], described[name]) for name in names),
        _metadata(description.metadata),
        path.parent,
    )


def _parse(path: Path) -> Any:
    library = coremltools()
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    message = library.proto.Model_pb2.Model()
    try:
        message.ParseFromString(path.read_bytes())
    except (DecodeError, RuntimeError) as error:
        raise damaged(f"{path} is not a Core ML model ({line(error)})") from error
    return message


def _function(name: str, message: Any, description: Any) -> Function:
    block = message.block_specializations.get(message.opset)
    if block is None:
        raise damaged(f"function {shown(name)} has no block for its opset {shown(message.opset)}")
    if description.state or block.inputs:
        raise damaged(f"function {shown(name)} keeps a state, which is not supported")
    inputs, outputs = tuple(map(_value, message.inputs)), tuple(block.outputs)
    features = read_features([*description.input, *description.output])
    if set(features) != {*outputs, *(value.name for value in inputs)}:
        raise damaged(f"function {shown(name)} has other inputs or outputs than the package describes")
    operations = tuple(map(_operation, block.operations))
    return Function(name, inputs, operations, outputs, features, description.predictedFeatureName or None)


def _operation(message: Any) -> Operation:
    arguments: dict[str, tuple[Argument, ...]] = {}
    for name, argument in message.inputs.items():
        arguments[name] = tuple(map(_argument, argument.arguments))
    for name, value in message.attributes.items():
        if name != "name":
            arguments[name] = (Literal(value),)
    operation = Operation(message.type, arguments, tuple(map(_value, message.outputs)))
    if message.blocks:
        raise damaged(f"{operation.place} has blocks of its own, which are not supported")
    return operation


def _argument(message: Any) -> Argument:
    return Literal(message.value) if message.WhichOneof("binding") == "value" else str(message.name)


def _value(message: Any) -> Value:
    tensor = message.type.WhichOneof("type") == "tensorType"
    return Value(message.name, tensor_type(message.type.tensorType, message.name) if tensor else None)


def tensor_type(message: Any, name: str) -> TensorType:
    """The type in a `TensorType` message, for the value called `name`. Raises BundleError: no such type, too large."""
    dtype = NUMBERED.get(message.dataType)
    if dtype is None and message.dataType != STRING:
        raise damaged(f"{shown(name)} has element type {message.dataType}, which is not known")
    if message.rank != len(message.dimensions) or message.rank > LARGEST_RANK:
        raise damaged(f"{shown(name)} has rank {message.rank} and {len(message.dimensions)} dimensions")
    shape = tuple(map(_side, message.dimensions))
    check_size([side for side in shape if side is not None], name)
    return TensorType(dtype, shape)


def check_size(shape: Sequence[int], name: str) -> None:
    """Raises BundleError where a tensor of this shape, called `name`, is larger than any that we would hold."""
    if math.prod(shape) > LARGEST_TENSOR or any(side > LARGEST_TENSOR for side in shape):
        raise damaged(f"{shown(name)} has shape {tuple(shape)}, more than {LARGEST_TENSOR} elements")


def _side(message: Any) -> int | None:
    return int(message.constant.size) if message.WhichOneof("dimension") == "constant" else None


def _metadata(message: Any) -> dict[str, str]:
    known = {
        "description": message.shortDescription,
        "version": message.versionString,
        "author": message.author,
        "license": message.license,
    }
    return {name: value for name, value in known.items() if value} | dict(message.userDefined)
