"""Reads a saved ML Program from its protobuf as plain data: description, functions, operations, types."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evm_deploy.optional import coremltools
from evm_deploy.runtimes.mil.dtypes import NUMBERED, DType
from evm_deploy.runtimes.mil.features import Feature, read_features
from evm_deploy.runtimes.mil.package_files import find_model_file
from evm_deploy.runtimes.mil.problems import make_package_error, quote, take_first_line

LARGEST_TENSOR = 1 << 28  # elements: one gigabyte of float32
LARGEST_RANK = 8  # of constants; computed values have at most five dimensions
STRING = 2  # the number of the element type for strings, which tensors here never have


@dataclass(frozen=True)
class TensorType:
    """The element type of a tensor (None: strings) and its sides (None: known when the program runs)."""

    dtype: DType | None
    shape: tuple[int | None, ...]

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether a tensor of this shape matches this type."""
        sides = zip(self.shape, shape, strict=False)
        return len(shape) == len(self.shape) and all(said in (None, side) for said, side in sides)

    def __str__(self) -> str:
        sides = ", ".join("?" if side is None else str(side) for side in self.shape)
        return f"{self.dtype.name if self.dtype else 'string'} ({sides})"


@dataclass(frozen=True)
class MilValue:
    """A named value and its type; `type` is None for dictionaries and lists."""

    name: str
    type: TensorType | None


@dataclass(frozen=True)
class Literal:
    """A constant that is not decoded yet: a `Value` message of the format."""

    message: Any

    @property
    def file(self) -> str | None:
        """The name of the weight file that holds it; None: it is in the program."""
        return str(self.message.blobFileValue.fileName) if self.message.HasField("blobFileValue") else None


Argument = str | Literal  # the name of a value, or a constant in the program


@dataclass(frozen=True)
class Operation:
    """One operation. A parameter has one argument, or several if it is a tuple of tensors."""

    kind: str
    arguments: Mapping[str, tuple[Argument, ...]]
    outputs: tuple[MilValue, ...]

    @property
    def is_constant(self) -> bool:
        """Whether it holds or decodes a constant, and does not depend on the inputs."""
        return self.kind == "const" or self.kind.startswith("constexpr_")

    @property
    def place(self) -> str:
        """Its description in errors."""
        return f"{quote(self.kind)} that makes {quote(self.outputs[0].name)}" if self.outputs else quote(self.kind)


@dataclass(frozen=True)
class Function:
    """One function of the program, with the package's description of its inputs and outputs for apps."""

    name: str
    inputs: tuple[MilValue, ...]
    operations: tuple[Operation, ...]
    outputs: tuple[str, ...]
    features: Mapping[str, Feature]  # of inputs and outputs, by name
    label: str | None  # the output that is the predicted class, in a classifier


@dataclass(frozen=True)
class MilModel:
    """A package that has been read, without running it or reading its weights."""

    version: int
    functions: tuple[Function, ...]  # the default one first
    metadata: Mapping[str, str]
    folder: Path  # of the program's file; the weight files are below it


def read_model(package: Path) -> MilModel:
    """Reads the package at `package`.

    Raises BundleError: it is not an `.mlpackage` with an ML Program, or is damaged; MissingToolError: no coremltools.
    """
    path = find_model_file(package)
    message = _parse(path)
    if message.WhichOneof("Type") != "mlProgram":
        raise make_package_error(f"{package} holds no ML Program but {message.WhichOneof('Type') or 'nothing'}")
    description, functions = message.description, message.mlProgram.functions
    described = {entry.name: entry for entry in description.functions} or {"main": description}
    if not functions or set(described) != set(functions):
        raise make_package_error(f"{package} describes {len(described)} functions and has {len(functions)}, or others")
    default = description.defaultFunctionName or "main"
    names = sorted(described, key=lambda name: (name != default, name))
    return MilModel(
        message.specificationVersion,
        tuple(_read_function(name, functions[name], described[name]) for name in names),
        _read_metadata(description.metadata),
        path.parent,
    )


def _parse(path: Path) -> Any:
    library = coremltools()
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    message = library.proto.Model_pb2.Model()
    try:
        message.ParseFromString(path.read_bytes())
    except (DecodeError, RuntimeError) as error:
        raise make_package_error(f"{path} is not a Core ML model ({take_first_line(error)})") from error
    return message


def _read_function(name: str, message: Any, description: Any) -> Function:
    block = message.block_specializations.get(message.opset)
    if block is None:
        raise make_package_error(f"function {quote(name)} has no block for its opset {quote(message.opset)}")
    if description.state or block.inputs:
        raise make_package_error(f"function {quote(name)} keeps a state, which is not supported")
    inputs, outputs = tuple(map(_read_value, message.inputs)), tuple(block.outputs)
    features = read_features([*description.input, *description.output])
    if set(features) != {*outputs, *(value.name for value in inputs)}:
        raise make_package_error(f"function {quote(name)} has other inputs or outputs than the package describes")
    operations = tuple(map(_read_operation, block.operations))
    return Function(name, inputs, operations, outputs, features, description.predictedFeatureName or None)


def _read_operation(message: Any) -> Operation:
    arguments: dict[str, tuple[Argument, ...]] = {}
    for name, argument in message.inputs.items():
        arguments[name] = tuple(map(_read_argument, argument.arguments))
    for name, value in message.attributes.items():
        if name != "name":
            arguments[name] = (Literal(value),)
    operation = Operation(message.type, arguments, tuple(map(_read_value, message.outputs)))
    if message.blocks:
        raise make_package_error(f"{operation.place} has blocks of its own, which are not supported")
    return operation


def _read_argument(message: Any) -> Argument:
    return Literal(message.value) if message.WhichOneof("binding") == "value" else str(message.name)


def _read_value(message: Any) -> MilValue:
    tensor = message.type.WhichOneof("type") == "tensorType"
    return MilValue(message.name, read_tensor_type(message.type.tensorType, message.name) if tensor else None)


def read_tensor_type(message: Any, name: str) -> TensorType:
    """Reads a `TensorType` message of the value `name`. Raises BundleError: an unknown type, or too large."""
    dtype = NUMBERED.get(message.dataType)
    if dtype is None and message.dataType != STRING:
        raise make_package_error(f"{quote(name)} has the unknown element type {message.dataType}")
    if message.rank != len(message.dimensions) or message.rank > LARGEST_RANK:
        raise make_package_error(f"{quote(name)} has rank {message.rank} and {len(message.dimensions)} dimensions")
    shape = tuple(map(_read_side, message.dimensions))
    check_size([side for side in shape if side is not None], name)
    return TensorType(dtype, shape)


def check_size(shape: Sequence[int], name: str) -> None:
    """Raises BundleError: the tensor `name` of this shape is larger than LARGEST_TENSOR."""
    if math.prod(shape) > LARGEST_TENSOR or any(side > LARGEST_TENSOR for side in shape):
        raise make_package_error(f"{quote(name)} has shape {tuple(shape)}, more than {LARGEST_TENSOR} elements")


def _read_side(message: Any) -> int | None:
    return int(message.constant.size) if message.WhichOneof("dimension") == "constant" else None


def _read_metadata(message: Any) -> dict[str, str]:
    known = {
        "description": message.shortDescription,
        "version": message.versionString,
        "author": message.author,
        "license": message.license,
    }
    return {name: value for name, value in known.items() if value} | dict(message.userDefined)
