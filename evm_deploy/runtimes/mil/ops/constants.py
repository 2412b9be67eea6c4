"""Decompresses constants that are stored in few bits into floats.

There are two forms. Until iOS 17, values smaller than a byte are packed in bytes, with a separate shape. From iOS 18
on, they are tensors of their own type, with scales and tables for each block.
"""

import math

import numpy as np
import torch
from torch import Tensor

from evm_deploy.runtimes.mil.dtypes import NAMED, unpack
from evm_deploy.runtimes.mil.ops.elementwise import align
from evm_deploy.runtimes.mil.ops.row import Function, Ints
from evm_deploy.runtimes.mil.problems import make_package_error, quote
from evm_deploy.runtimes.mil.program import check_size

TABLE_BITS = {2: "uint1", 4: "uint2", 8: "uint3", 16: "uint4", 64: "uint6", 256: "uint8"}  # length: type of an index


def affine_dequantize(quantized_data: Tensor, zero_point: Tensor, scale: Tensor, axis: int) -> Tensor:
    """scale (data - zero_point), in the type of scale."""
    values = quantized_data.float() - align(zero_point.float(), quantized_data, axis)
    return (align(scale.float(), quantized_data, axis) * values).to(scale.dtype)


def cast(source_val: Tensor, output_dtype: str) -> Tensor:
    """float16 as float32."""
    if output_dtype != "fp32":
        raise make_package_error(f"its output_dtype {quote(output_dtype)} is not supported")
    return source_val.float()


def lut_to_dense(indices: Tensor, lut: Tensor, shape: Ints | None = None, vector_axis: int | None = None) -> Tensor:
    """Looks up the entries of a table. With `shape`, the indices are packed in bytes, and there is one table.

    Otherwise there is a table for each block of `indices`, lut (blocks..., entries, values), and the values of an
    entry are placed along vector_axis.
    """
    if shape is not None:
        indices = _unpack(indices, TABLE_BITS.get(len(lut), ""), shape)
        lut = lut.reshape(*[1] * len(shape), -1, 1)
    if lut.ndim != indices.ndim + 2:
        raise make_package_error(
            f"its table of shape {tuple(lut.shape)} does not fit indices of shape {tuple(indices.shape)}"
        )
    blocks, (entries, width) = lut.shape[:-2], lut.shape[-2:]
    check_size([*indices.shape, width], "constant")
    table = torch.arange(math.prod(blocks)).reshape(blocks)
    rows = _expand_blocks(table, indices) * entries + _check_indices(indices.long(), entries)
    values = lut.reshape(-1, width)[rows]  # (indices..., width)
    if width == 1:
        return values.squeeze(-1)
    if vector_axis is None:
        raise make_package_error("its table has vectors, but it has no vector_axis")
    axis = vector_axis % indices.ndim
    return values.movedim(-1, axis + 1).flatten(axis, axis + 1)


def sparse_to_dense(nonzero_data: Tensor, mask: Tensor, shape: Ints | None = None) -> Tensor:
    """The data, in order, where the mask is 1, and 0 elsewhere. With `shape`, the mask is packed in bytes."""
    if shape is not None:
        mask = _unpack(mask, "uint1", shape)
    return _scatter(nonzero_data, mask)


def blockwise_shift_scale(data: Tensor, scale: Tensor, offset: Tensor | None = None) -> Tensor:
    """scale (data - offset), in the type of scale; one scale and offset for each block of the data."""
    values = data.float()
    if offset is not None:
        values = values - _expand_blocks(offset.float(), data)
    return (_expand_blocks(scale.float(), data) * values).to(scale.dtype)


def sparse_blockwise_shift_scale(
    data_mask: Tensor, nonzero_data: Tensor, scale: Tensor, offset: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The mask, and the result of `blockwise_shift_scale` on the data where it is 1."""
    dense = blockwise_shift_scale(_scatter(nonzero_data, data_mask), scale, offset)
    return data_mask, dense[data_mask != 0]


def lut_to_sparse(
    indices_mask: Tensor, indices_nonzero_data: Tensor, lut: Tensor, vector_axis: int | None = None
) -> tuple[Tensor, Tensor]:
    """The mask for each value of an entry, and the result of `lut_to_dense` on the indices where it is 1."""
    dense = lut_to_dense(_scatter(indices_nonzero_data, indices_mask), lut, vector_axis=vector_axis)
    mask = indices_mask
    if vector_axis is not None:
        mask = mask.repeat_interleave(lut.shape[-1], vector_axis)
    return mask, dense[mask != 0]


def _unpack(packed: Tensor, dtype: str, shape: Ints) -> Tensor:
    if dtype not in NAMED or packed.dtype != torch.uint8 or packed.ndim != 1 or min(shape, default=0) < 0:
        raise make_package_error(f"it unpacks {packed.dtype} {tuple(packed.shape)} to {shape}")
    check_size(shape, "constant")
    return unpack(np.ascontiguousarray(packed.numpy()), NAMED[dtype], shape)


def _check_indices(indices: Tensor, entries: int) -> Tensor:
    if indices.numel() and not 0 <= int(indices.min()) <= int(indices.max()) < entries:
        raise make_package_error(f"it looks up entry {int(indices.max())} in a table of {entries}")
    return indices


def _expand_blocks(parameter: Tensor, data: Tensor) -> Tensor:
    """Repeats a value for each block of the data to the shape of the data."""
    if parameter.ndim != data.ndim or any(
        few < 1 or many % few for few, many in zip(parameter.shape, data.shape, strict=True)
    ):
        raise make_package_error(
            f"blocks of shape {tuple(parameter.shape)} do not fit data of shape {tuple(data.shape)}"
        )
    for axis, (few, many) in enumerate(zip(parameter.shape, data.shape, strict=True)):
        if 1 < few < many:
            parameter = parameter.repeat_interleave(many // few, axis)
    return parameter  # sides of 1 broadcast


def _scatter(nonzero_data: Tensor, mask: Tensor) -> Tensor:
    if mask.dtype != torch.uint8 or nonzero_data.shape != (int(mask.count_nonzero()),):
        raise make_package_error(f"its mask does not have {tuple(nonzero_data.shape)} places")
    dense = torch.zeros(mask.shape, dtype=nonzero_data.dtype)
    dense[mask != 0] = nonzero_data
    return dense


AS_STORED: dict[str, Function] = {
    "constexpr_affine_dequantize": affine_dequantize,
    "constexpr_blockwise_shift_scale": blockwise_shift_scale,
    "constexpr_cast": cast,
    "constexpr_lut_to_dense": lut_to_dense,
    "constexpr_lut_to_sparse": lut_to_sparse,
    "constexpr_sparse_blockwise_shift_scale": sparse_blockwise_shift_scale,
    "constexpr_sparse_to_dense": sparse_to_dense,
}
