"""Decodes the constants of a program, which are in the program itself or in the weight file."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evm_deploy.runtimes.mil.blobs import Blobs
from evm_deploy.runtimes.mil.dtypes import DType, unpack
from evm_deploy.runtimes.mil.ops.row import Bound, Labels
from evm_deploy.runtimes.mil.problems import make_package_error, quote
from evm_deploy.runtimes.mil.program import Function, Literal, read_tensor_type


def decode(literal: Literal, blobs: Blobs, name: str) -> Bound:
    """Decodes a literal: a tensor, a string or a list of labels. `name` is its name in errors.

    Raises BundleError: its values do not match its type.
    """
    message = literal.message
    kind, where = message.type.WhichOneof("type"), message.WhichOneof("value")
    if kind == "listType" and where == "immediateValue":
        return _decode_list(message.immediateValue, name)
    if kind != "tensorType" or where is None:
        raise make_package_error(f"the constant {quote(name)} is neither a tensor nor a list")
    declared = read_tensor_type(message.type.tensorType, name)
    shape = tuple(side for side in declared.shape if side is not None)
    if len(shape) != len(declared.shape):
        raise make_package_error(f"the constant {quote(name)} has an unknown shape, {declared}")
    if declared.dtype is None:
        return _decode_text(message.immediateValue, name)
    if where == "blobFileValue":
        blob = message.blobFileValue
        return blobs.read(blob.fileName, blob.offset, declared.dtype, shape)
    return _decode_tensor(message.immediateValue, declared.dtype, shape, name)


def read_class_labels(function: Function) -> Labels:
    """The class labels of a classifier, in order; empty for another function. Raises BundleError: not a list."""
    for operation in function.operations:
        if operation.kind == "classify":
            for argument in operation.arguments.get("classes", ()):
                if isinstance(argument, Literal) and argument.message.type.HasField("listType"):
                    return _decode_list(argument.message.immediateValue, "classes")
            raise make_package_error(f"{operation.place} has no list of classes")
    return ()


def _decode_tensor(message: Any, dtype: DType, shape: tuple[int, ...], name: str) -> Tensor:
    if message.WhichOneof("value") != "tensor" or message.tensor.WhichOneof("value") not in (dtype.field, None):
        raise make_package_error(f"the constant {quote(name)} does not hold {dtype.name}")
    values = getattr(message.tensor, dtype.field).values
    if dtype.field == "bytes":
        return unpack(np.frombuffer(bytearray(values), np.uint8), dtype, shape)
    if len(values) != math.prod(shape):
        raise make_package_error(f"the constant {quote(name)} has {len(values)} values for shape {shape}")
    try:
        return torch.from_numpy(np.array(values, dtype.numpy).reshape(shape))
    except OverflowError:
        raise make_package_error(f"the constant {quote(name)} has values that are not {dtype.name}") from None


def _decode_text(message: Any, name: str) -> str:
    values = message.tensor.strings.values
    if len(values) != 1:
        raise make_package_error(f"the constant {quote(name)} has {len(values)} strings, not one")
    return str(values[0])


def _decode_list(message: Any, name: str) -> Labels:
    tensors = [value.immediateValue.tensor for value in message.list.values]
    fields = {tensor.WhichOneof("value") for tensor in tensors}
    if fields not in ({"strings"}, {"longInts"}):
        raise make_package_error(f"the list {quote(name)} holds neither strings nor whole numbers")
    values = [getattr(tensor, *fields).values for tensor in tensors]
    if any(len(value) != 1 for value in values):
        raise make_package_error(f"the list {quote(name)} has entries of more than one value")
    return tuple(value[0] for value in values)
