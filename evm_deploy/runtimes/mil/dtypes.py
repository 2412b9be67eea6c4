"""The element types of ML Programs: their numbers in the two file formats, their bits, the tensors that hold them."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from evm_deploy.runtimes.mil.problems import damaged


@dataclass(frozen=True)
class DType:
    """One element type. Types of less than a byte are packed in files, lowest bits first, and held in bytes here."""

    name: str
    number: int  # in the program
    blob: int | None  # in the weight file, where it may occur there
    bits: int
    torch: torch.dtype
    numpy: str  # as a whole number of bytes, little-endian
    field: str  # of an immediate value

    @property
    def is_float(self) -> bool:
        """Whether values of this type are rounded, rather than counted."""
        return self.torch.is_floating_point

    def bytes(self, count: int) -> int:
        """What `count` packed elements take."""
        return math.ceil(count * self.bits / 8)


def _sub_byte(name: str, number: int, blob: int) -> DType:
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
    _sub_byte("int4", 25, 8),
    _sub_byte("uint1", 37, 9),
    _sub_byte("uint2", 36, 10),
    _sub_byte("uint3", 39, 12),
    _sub_byte("uint4", 35, 11),
    _sub_byte("uint6", 38, 13),
)
NUMBERED = {dtype.number: dtype for dtype in DTYPES}
NAMED = {dtype.name: dtype for dtype in DTYPES}

# Arithmetic is done in the wider type and its result brought back, once for each operation.
WIDE = {
    torch.float16: torch.float32,
    torch.int8: torch.int32,
    torch.uint8: torch.int32,
    torch.int16: torch.int32,
    torch.uint16: torch.int32,
    torch.uint32: torch.int64,
}


def unpack(data: npt.NDArray[np.uint8], dtype: DType, shape: tuple[int, ...]) -> Tensor:
    """The elements that are packed in bytes, as a tensor that shares them where it can.

    Raises BundleError unless there are exactly as many bytes as the shape takes.
    """
    count = math.prod(shape)
    if data.size != dtype.bytes(count):
        raise damaged(f"{data.size} bytes are not {dtype.name} of shape {shape}")
    if dtype.bits >= 8:
        return torch.from_numpy(data.view(dtype.numpy).reshape(shape))
    bits = np.unpackbits(data, count=count * dtype.bits, bitorder="little").reshape(count, dtype.bits)
    values = np.zeros(count, np.uint8)
    for place in range(dtype.bits):
        values |= bits[:, place] << place
    if dtype.torch is torch.int8:
        values -= (values >> (dtype.bits - 1)) << dtype.bits  # two's complement
    return torch.from_numpy(values.view(dtype.numpy).reshape(shape))
