"""Operations that take elements from elsewhere or make them: pads, repeats, lookups, ranges; and the shape itself."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from evm_deploy.runtimes.mil.ops.row import Function, Ints, Scalar
from evm_deploy.runtimes.mil.ops.shaping import positive
from evm_deploy.runtimes.mil.problems import damaged, shown
from evm_deploy.runtimes.mil.program import check_size

PAD_MODES = ("constant", "reflect", "replicate")


def pad(x: Tensor, pad: Ints, mode: str = "constant", constant_val: Scalar | None = None) -> Tensor:
    """x with pad[2i] places before and pad[2i + 1] after, along the last axes."""
    if len(pad) % 2 or len(pad) > 2 * x.ndim or min(pad, default=0) < 0:
        raise damaged(f"its pad {pad} does not fit shape {tuple(x.shape)}")
    before_after = list(zip(pad[::2], pad[1::2], strict=True))
    check_size([side + sum(pads) for side, pads in zip(reversed(x.shape), reversed(before_after), strict=False)], "pad")
    if mode == "constant":
        value = 0 if constant_val is None else constant_val.item()
        return F.pad(x, [places for pads in reversed(before_after) for places in pads], value=value)
    if mode not in PAD_MODES:
        raise damaged(f"its mode {shown(mode)} is not supported")
    for axis, (before, after) in zip(range(x.ndim - len(before_after), x.ndim), before_after, strict=True):
        x = x.index_select(axis, _padded_places(x.shape[axis], before, after, mode).to(x.device))
    return x


def _padded_places(side: int, before: int, after: int, mode: str) -> Tensor:
    """Where each place of a padded axis comes from."""
    places = torch.arange(-before, side + after)
    if mode == "reflect":
        if max(before, after) >= side:
            raise damaged(f"it reflects {max(before, after)} places of {side}")
        places = places.abs()
        return torch.where(places >= side, 2 * (side - 1) - places, places)
    return places.clamp(0, side - 1)


def tile(x: Tensor, reps: Ints) -> Tensor:
    """x repeated reps[i] times along axis i."""
    if len(reps) != x.ndim or min(reps, default=1) < 1:
        raise damaged(f"its reps {reps} do not fit shape {tuple(x.shape)}")
    return x.repeat(reps)


def fill(shape: Ints, value: Scalar | None = None) -> Tensor:
    """One value in every place; without one, the float32 0."""
    return (torch.zeros(()) if value is None else value).expand(shape)


def range_1d(end: Scalar, start: Scalar, step: Scalar) -> Tensor:
    """start, start + step, ... short of end."""
    first, last, by = (value.item() for value in (start, end, step))
    check_size([max(0, math.ceil((last - first) / by))], "range_1d")
    return torch.arange(first, last, by, dtype=start.dtype)


def shape_of(x: Tensor) -> Tensor:
    """The sides of x."""
    return torch.tensor(x.shape, dtype=torch.int32)


def gather(x: Tensor, indices: Tensor, axis: int = 0, batch_dims: int = 0, validate_indices: bool = False) -> Tensor:
    """The places `indices` of an axis; with batch_dims, a list of places for each entry of the first axes."""
    axis = positive(axis, x.ndim)
    if not 0 <= batch_dims <= min(axis, indices.ndim):
        raise damaged(f"its batch_dims {batch_dims} do not fit axis {axis}")
    places, batch = _places(indices, x.shape[axis]), x.shape[:batch_dims]
    if batch != indices.shape[:batch_dims]:
        raise damaged(f"its indices {tuple(indices.shape)} do not fit {tuple(x.shape)}")
    rest = indices.shape[batch_dims:]
    shape = (*x.shape[:axis], *rest, *x.shape[axis + 1 :])
    if batch_dims == 0:
        return x.index_select(axis, places.reshape(-1)).reshape(shape)
    flat = places.reshape(*batch, *[1] * (axis - batch_dims), -1, *[1] * (x.ndim - axis - 1))
    flat = flat.expand(*x.shape[:axis], -1, *x.shape[axis + 1 :])
    return x.gather(axis, flat).reshape(shape)


def gather_along_axis(x: Tensor, indices: Tensor, axis: int = 0, validate_indices: bool = False) -> Tensor:
    """For each place of the result, the element of x with the same place but `indices` along `axis`."""
    return x.gather(axis, _places(indices, x.shape[axis]))


def _places(indices: Tensor, side: int) -> Tensor:
    """Indices as PyTorch takes them; negative ones count from the end."""
    places = indices.long()
    return torch.where(places < 0, places + side, places)


AS_STORED: dict[str, Function] = {
    "fill": fill,
    "gather": gather,
    "gather_along_axis": gather_along_axis,
    "pad": pad,
    "range_1d": range_1d,
    "shape": shape_of,
    "tile": tile,
}
