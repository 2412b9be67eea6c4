"""Operations that copy or create elements: pads, repeats, lookups and their inverse, ranges; the shape of a tensor."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from evm_deploy.runtimes.mil.ops.row import Function, Ints, Scalar, widen
from evm_deploy.runtimes.mil.ops.shaping import count_from_start
from evm_deploy.runtimes.mil.problems import make_package_error, quote
from evm_deploy.runtimes.mil.program import check_size

PAD_MODES = ("constant", "reflect", "replicate")
SCATTERED = {"add": "sum", "sub": "sum", "mul": "prod", "max": "amax", "min": "amin"}  # the mode and PyTorch's name


def pad(x: Tensor, pad: Ints, mode: str = "constant", constant_val: Scalar | None = None) -> Tensor:
    """x with pad[2i] elements before and pad[2i + 1] after, along the last axes."""
    if len(pad) % 2 or len(pad) > 2 * x.ndim or min(pad, default=0) < 0:
        raise make_package_error(f"its pad {pad} does not fit shape {tuple(x.shape)}")
    before_after = list(zip(pad[::2], pad[1::2], strict=True))
    check_size([side + sum(pads) for side, pads in zip(reversed(x.shape), reversed(before_after), strict=False)], "pad")
    if mode == "constant":
        value = 0 if constant_val is None else constant_val.item()
        return F.pad(x, [places for pads in reversed(before_after) for places in pads], value=value)
    if mode not in PAD_MODES:
        raise make_package_error(f"its mode {quote(mode)} is not supported")
    for axis, (before, after) in zip(range(x.ndim - len(before_after), x.ndim), before_after, strict=True):
        x = x.index_select(axis, _find_padded_places(x.shape[axis], before, after, mode).to(x.device))
    return x


def _find_padded_places(side: int, before: int, after: int, mode: str) -> Tensor:
    """The source of each position along a padded axis."""
    places = torch.arange(-before, side + after)
    if mode == "reflect":
        if max(before, after) >= side:
            raise make_package_error(f"it reflects {max(before, after)} places of {side}")
        places = places.abs()
        return torch.where(places >= side, 2 * (side - 1) - places, places)
    return places.clamp(0, side - 1)


def tile(x: Tensor, reps: Ints) -> Tensor:
    """x repeated reps[i] times along axis i."""
    if len(reps) != x.ndim or min(reps, default=1) < 1:
        raise make_package_error(f"its reps {reps} do not fit shape {tuple(x.shape)}")
    return x.repeat(reps)


def fill(shape: Ints, value: Scalar | None = None) -> Tensor:
    """A tensor with one value everywhere; by default the float32 0."""
    return (torch.zeros(()) if value is None else value).expand(shape)


def range_1d(end: Scalar, start: Scalar, step: Scalar) -> Tensor:
    """start, start + step, ... up to but not including end."""
    first, last, by = (value.item() for value in (start, end, step))
    check_size([max(0, math.ceil((last - first) / by))], "range_1d")
    return torch.arange(first, last, by, dtype=start.dtype)


def shape_of(x: Tensor) -> Tensor:
    """The sides of x."""
    return torch.tensor(x.shape, dtype=torch.int32)


def gather(x: Tensor, indices: Tensor, axis: int = 0, batch_dims: int = 0, validate_indices: bool = False) -> Tensor:
    """The elements at `indices` along an axis; with batch_dims, separate indices for each entry of the first axes."""
    axis = count_from_start(axis, x.ndim)
    if not 0 <= batch_dims <= min(axis, indices.ndim):
        raise make_package_error(f"its batch_dims {batch_dims} do not fit axis {axis}")
    places, batch = _normalise_places(indices, x.shape[axis]), x.shape[:batch_dims]
    if batch != indices.shape[:batch_dims]:
        raise make_package_error(f"its indices {tuple(indices.shape)} do not fit {tuple(x.shape)}")
    rest = indices.shape[batch_dims:]
    shape = (*x.shape[:axis], *rest, *x.shape[axis + 1 :])
    if batch_dims == 0:
        return x.index_select(axis, places.reshape(-1)).reshape(shape)
    flat = places.reshape(*batch, *[1] * (axis - batch_dims), -1, *[1] * (x.ndim - axis - 1))
    flat = flat.expand(*x.shape[:axis], -1, *x.shape[axis + 1 :])
    return x.gather(axis, flat).reshape(shape)


def gather_along_axis(x: Tensor, indices: Tensor, axis: int = 0, validate_indices: bool = False) -> Tensor:
    """For each position of the result, the element of x at the same position, but at `indices` along `axis`."""
    return x.gather(axis, _normalise_places(indices, x.shape[axis]))


def scatter(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,
) -> Tensor:
    """data with the updates at `indices` along an axis, in its place or added, subtracted, multiplied, compared."""
    axis = count_from_start(axis, data.ndim)
    shape = [1] * data.ndim
    shape[axis] = -1
    places = _normalise_places(indices, data.shape[axis]).reshape(shape)
    return _scatter(data, places.expand(updates.shape), updates, axis, mode)


def scatter_along_axis(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,
) -> Tensor:
    """As `scatter`, with an index for each update."""
    axis = count_from_start(axis, data.ndim)
    return _scatter(data, _normalise_places(indices, data.shape[axis]), updates, axis, mode)


def scatter_nd(
    data: Tensor, indices: Tensor, updates: Tensor, mode: str = "add", validate_indices: bool = False
) -> Tensor:
    """As `scatter`, where the last axis of `indices` holds one index for each of the first axes of data."""
    axes = indices.shape[-1]
    flat = torch.zeros(indices.shape[:-1], dtype=torch.int64, device=indices.device)
    for axis in range(axes):
        flat = flat * data.shape[axis] + _normalise_places(indices[..., axis], data.shape[axis])
    rows = data.reshape(-1, math.prod(data.shape[axes:]))
    given = updates.reshape(-1, rows.shape[1])
    return _scatter(rows, flat.reshape(-1, 1).expand(given.shape), given, 0, mode).reshape(data.shape)


def _scatter(data: Tensor, places: Tensor, updates: Tensor, axis: int, mode: str) -> Tensor:
    """Sums are computed in float32, like those of the other operations."""
    if mode == "update":
        return data.scatter(axis, places, updates)
    if mode not in SCATTERED:
        raise make_package_error(f"its mode {quote(mode)} is not supported")
    given = -updates if mode == "sub" else updates
    wide: Tensor = widen(data).scatter_reduce(axis, places, widen(given), SCATTERED[mode])
    return wide.to(data.dtype)


def _normalise_places(indices: Tensor, side: int) -> Tensor:
    """Makes indices valid for PyTorch; negative ones count from the end."""
    places = indices.long()
    return torch.where(places < 0, places + side, places)


AS_STORED: dict[str, Function] = {
    "fill": fill,
    "gather": gather,
    "gather_along_axis": gather_along_axis,
    "pad": pad,
    "range_1d": range_1d,
    "scatter": scatter,
    "scatter_along_axis": scatter_along_axis,
    "scatter_nd": scatter_nd,
    "shape": shape_of,
    "tile": tile,
}
