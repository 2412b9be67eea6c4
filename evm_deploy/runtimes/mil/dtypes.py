"""The element types of ML Programs: their numbers in the two file formats, their bits, and the tensors for them."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from evm_deploy.runtimes.mil.problems import make_package_error


@dataclass(frozen=True)
class DType:
    """An element type. Types smaller than a byte are packed in files, lowest bits first; here an element is a byte."""

    name: str
    number: int  # in the program
    blob: int | None  # in the weight file; None: not possible there
    bits: int
    torch: torch.dtype
    numpy: str  # NumPy's type, little-endian, with a whole number of bytes
    field: str  # the protobuf field of an immediate value

    @property
    def is_float(self) -> bool:
        """Whether it is a floating-point type."""
        return self.torch.is_floating_point

    def bytes(self, count: int) -> int:
        """The number of bytes of `count` packed elements."""
        return math.ceil(count * self.bits / 8)


def _make_sub_byte_type(name: str, number: int, blob: int) -> DType:
    kind = (torch.int8, "<i1") if name.startswith("int") else (torch.uint8, "<u1")
    return DType(name, number, blob, int(name[-1]), *kind, "bytes")


DTYPES = (
    DType("bool", 1, None, 8, torch.bool, "?", "bools"),
    DType("fp16", 10, 1, 16, torch.float16, "<f2", "bytes"),
    DType("fp32", 11, 2, 32, torch.float32, "<f4", "floats"),
    DType("fp64", 12, None, 64, torch.float64, "<f8", "doubles"),
    DType("int8", 21, 4, 8, torch.int8, "<i1", "bytes"),
    DType("int16", 22, 6, 16, torch.int16, "<i2", "ints"),
    DType("int32", 23, 14, 32, torch.int32, "<i4", "ints"),
    DType("int64", 24, None, 64, torch.int64, "<i8", "longInts"),
    DType("uint8", 31, 3, 8, torch.uint8, "<u1", "bytes"),
    DType("uint16", 32, 7, 16, torch.uint16, "<u2", "ints"),
    DType("uint32", 33, 15, 32, torch.uint32, "<u4", "bytes"),
    _make_sub_byte_type("int4", 25, 8),
    _make_sub_byte_type("uint1", 37, 9),
    _make_sub_byte_type("uint2", 36, 10),
    _make_sub_byte_type("uint3", 39, 12),
    _make_sub_byte_type("uint4", 35, 11),
    _make_sub_byte_type("uint6", 38, 13),
)
NUMBERED = {dtype.number: dtype for dtype in DTYPES}
NAMED = {dtype.name: dtype for dtype in DTYPES}

# Arithmetic uses the wider type; each operation converts its result back once.
WIDE = {
    torch.float16: torch.float32,
    torch.int8: torch.int32,
    torch.uint8: torch.int32,
    torch.int16: torch.int32,
    torch.uint16: torch.int32,
    torch.uint32: torch.int64,
}


def unpack(data: npt.NDArray[np.uint8], dtype: DType, shape: tuple[int, ...]) -> Tensor:
    """Unpacks elements from bytes into a tensor, which shares the memory if possible.

    Raises BundleError: the number of bytes does not match the shape.
    """
    count = math.prod(shape)
    if data.size != dtype.bytes(count):
        raise make_package_error(f"{data.size} bytes do not match {dtype.name} of shape {shape}")
    if dtype.bits >= 8:
        return torch.from_numpy(data.view(dtype.numpy).reshape(shape))
    bits = np.unpackbits(data, count=count * dtype.bits, bitorder="little").reshape(count, dtype.bits)
    values = np.zeros(count, np.uint8)
    for place in range(dtype.bits):
        values |= bits[:, place] << place
    if dtype.torch is torch.int8:
        values -= (values >> (dtype.bits - 1)) << dtype.bits  # two's complement
    return torch.from_numpy(values.view(dtype.numpy).reshape(shape))
