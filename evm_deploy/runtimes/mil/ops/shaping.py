"""Operations that only move elements: shapes, slices, joins."""

import torch
import torch.nn.functional as F
from torch import Tensor

from evm_deploy.runtimes.mil.ops.row import Bools, Function, Ints, Tensors
from evm_deploy.runtimes.mil.problems import make_package_error


def reshape(x: Tensor, shape: Ints) -> Tensor:
    """x in another shape. 0 keeps the side at that position (counted from the right); -1 is computed from the rest."""
    if 0 in shape:
        sides = (1,) * (len(shape) - x.ndim) + tuple(x.shape)[-len(shape) :]
        shape = tuple(old if new == 0 else new for old, new in zip(sides, shape, strict=True))
    return x.reshape(shape)


def transpose(x: Tensor, perm: Ints) -> Tensor:
    """The dimensions of x in the order `perm`."""
    return x.permute(perm)


def expand_dims(x: Tensor, axes: Ints) -> Tensor:
    """x with sides of 1 at `axes` of the result."""
    rank = x.ndim + len(axes)
    for axis in sorted(count_from_start(axis, rank) for axis in axes):
        x = x.unsqueeze(axis)
    return x


def squeeze(x: Tensor, axes: Ints | None = None) -> Tensor:
    """x without its sides of 1, or without the sides at `axes`, which must be 1."""
    if axes is None:
        return x.squeeze()
    if any(x.shape[axis] != 1 for axis in axes):
        raise make_package_error(f"it squeezes {axes} of shape {tuple(x.shape)}")
    return x.squeeze(axes)


def reverse(x: Tensor, axes: Ints | None = None) -> Tensor:
    """x in reverse order along `axes`, or along all axes."""
    return x.flip(tuple(range(x.ndim)) if axes is None else axes)


def concat(values: Tensors, axis: int, interleave: bool = False) -> Tensor:
    """Joins the values along `axis`. interleave: takes the first position of each, then the second of each."""
    _check_same_dtype(values)
    if not interleave:
        return torch.cat(values, axis)
    axis = count_from_start(axis, values[0].ndim)
    return torch.stack(values, axis + 1).flatten(axis, axis + 1)


def stack(values: Tensors, axis: int) -> Tensor:
    """Joins the values along a new axis."""
    _check_same_dtype(values)
    return torch.stack(values, axis)


def split(x: Tensor, axis: int, num_splits: int | None = None, split_sizes: Ints | None = None) -> Tensors:
    """Cuts x along `axis` into pieces of these sizes, or into `num_splits` pieces of equal size."""
    side = x.shape[axis]
    if split_sizes is None:
        if not num_splits or num_splits < 0 or side % num_splits:
            raise make_package_error(f"it cuts {side} into {num_splits} equal parts")
        split_sizes = (side // num_splits,) * num_splits
    pieces: Tensors = torch.split(x, list(split_sizes), axis)
    return pieces


def slice_by_index(
    x: Tensor,
    begin: Ints,
    end: Ints,
    stride: Ints | None = None,
    begin_mask: Bools | None = None,
    end_mask: Bools | None = None,
    squeeze_mask: Bools | None = None,
) -> Tensor:
    """x[begin:end:stride] along each axis. A mask drops a bound, or takes the position `begin` without its axis."""
    no, one = (False,) * x.ndim, (1,) * x.ndim
    stride, begin_mask, end_mask, squeeze_mask = stride or one, begin_mask or no, end_mask or no, squeeze_mask or no
    if any(len(part) != x.ndim for part in (begin, end, stride, begin_mask, end_mask, squeeze_mask)):
        raise make_package_error(f"its bounds do not fit shape {tuple(x.shape)}")
    for axis in reversed(range(x.ndim)):
        if squeeze_mask[axis]:
            x = x.select(axis, begin[axis])
            continue
        first = None if begin_mask[axis] else begin[axis]
        last = None if end_mask[axis] else end[axis]
        x = _slice(x, axis, range(x.shape[axis])[slice(first, last, stride[axis])])
    return x


def slice_by_size(x: Tensor, begin: Ints, size: Ints) -> Tensor:
    """`size` elements of each axis from `begin` on; -1 means all that follow."""
    if len(begin) != x.ndim or len(size) != x.ndim:
        raise make_package_error(f"its bounds do not fit shape {tuple(x.shape)}")
    for axis, (first, count) in enumerate(zip(begin, size, strict=True)):
        first = count_from_start(first, x.shape[axis])
        x = x.narrow(axis, first, x.shape[axis] - first if count == -1 else count)
    return x


def _slice(x: Tensor, axis: int, places: range) -> Tensor:
    """The elements of x at `places` along `axis`, in their order, which may be reversed."""
    if not places:
        return x.narrow(axis, 0, 0)
    forwards = places if places.step > 0 else places[::-1]
    index = (slice(None),) * axis + (slice(forwards.start, forwards.stop, forwards.step),)
    return x[index] if forwards is places else x[index].flip(axis)


def depth_to_space(x: Tensor, block_size: int) -> Tensor:
    """(B, b b C, H, W) -> (B, C, H b, W b): the position in a block is the outer part of the channel index."""
    B, C, H, W = x.shape
    x = x.reshape(B, block_size, block_size, C // block_size**2, H, W)
    return x.permute(0, 3, 4, 1, 5, 2).reshape(B, -1, H * block_size, W * block_size)


def space_to_depth(x: Tensor, block_size: int) -> Tensor:
    """The inverse of depth_to_space."""
    B, C, H, W = x.shape
    x = x.reshape(B, C, H // block_size, block_size, W // block_size, block_size)
    return x.permute(0, 3, 5, 1, 2, 4).reshape(B, -1, H // block_size, W // block_size)


def pixel_shuffle(x: Tensor, upscale_factor: int) -> Tensor:
    """(B, C b b, H, W) -> (B, C, H b, W b): the position in a block is the inner part of the channel index."""
    return F.pixel_shuffle(x, upscale_factor)


def pixel_unshuffle(x: Tensor, downscale_factor: int) -> Tensor:
    """The inverse of pixel_shuffle."""
    return F.pixel_unshuffle(x, downscale_factor)


def count_from_start(axis: int, rank: int) -> int:
    """Counts an axis, or a position along one, from the start."""
    return axis + rank if axis < 0 else axis


def _check_same_dtype(values: Tensors) -> None:
    if len({value.dtype for value in values}) != 1:
        raise make_package_error(f"its inputs mix {', '.join(sorted({str(value.dtype) for value in values}))}")


AS_STORED: dict[str, Function] = {
    "concat": concat,
    "depth_to_space": depth_to_space,
    "expand_dims": expand_dims,
    "pixel_shuffle": pixel_shuffle,
    "pixel_unshuffle": pixel_unshuffle,
    "reshape": reshape,
    "reverse": reverse,
    "slice_by_index": slice_by_index,
    "slice_by_size": slice_by_size,
    "space_to_depth": space_to_depth,
    "split": split,
    "squeeze": squeeze,
    "stack": stack,
    "transpose": transpose,
}
