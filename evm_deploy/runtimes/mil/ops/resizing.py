"""Operations that make the last two axes longer or shorter."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from evm_deploy.runtimes.mil.ops.row import Function, Scalar, widen
from evm_deploy.runtimes.mil.problems import make_package_error, quote
from evm_deploy.runtimes.mil.program import check_size


def upsample_nearest_neighbor(
    x: Tensor, scale_factor_height: Scalar | None = None, scale_factor_width: Scalar | None = None
) -> Tensor:
    """The last two axes longer by these factors, each place the nearest of x."""
    for axis, scale in ((-2, _read_factor(scale_factor_height)), (-1, _read_factor(scale_factor_width))):
        side = x.shape[axis]
        check_size([*x.shape, math.floor(side * scale)], "upsample_nearest_neighbor")
        places = (torch.arange(math.floor(side * scale)) / scale).long().clamp(max=side - 1)
        x = x.index_select(axis, places.to(x.device))
    return x


def upsample_bilinear(
    x: Tensor,
    scale_factor_height: Scalar | None = None,
    scale_factor_width: Scalar | None = None,
    align_corners: bool = True,
) -> Tensor:
    """x (..., H, W) longer by the factors, rounded down, and interpolated linearly."""
    factors = (_read_factor(scale_factor_height), _read_factor(scale_factor_width))
    sides = [math.floor(side * factor) for side, factor in zip(x.shape[-2:], factors, strict=True)]
    return _interpolate(x, sides, "upsample_bilinear", align_corners=align_corners)


def resize_bilinear(
    x: Tensor, target_size_height: int = 1, target_size_width: int = 1, sampling_mode: str = "DEFAULT"
) -> Tensor:
    """x (..., H, W) at that height and width, interpolated linearly."""
    if sampling_mode not in ("STRICT_ALIGN_CORNERS", "UNALIGN_CORNERS"):
        raise make_package_error(f"its sampling_mode {quote(sampling_mode)} is not supported")
    sides = [target_size_height, target_size_width]
    return _interpolate(x, sides, "resize_bilinear", align_corners=sampling_mode == "STRICT_ALIGN_CORNERS")


def _read_factor(scale: Scalar | None) -> float:
    factor = 1.0 if scale is None else float(scale)
    if not 0 < factor < math.inf:
        raise make_package_error(f"its scale {factor} is not supported")
    return factor


def _interpolate(x: Tensor, sides: Sequence[int], kind: str, *, align_corners: bool) -> Tensor:
    if x.ndim < 3 or min(sides) < 1:
        raise make_package_error(f"its input of shape {tuple(x.shape)} does not become {list(sides)}")
    check_size([*x.shape[:-2], *sides], kind)
    flat = widen(x).reshape(1, -1, *x.shape[-2:])
    y = F.interpolate(flat, list(sides), mode="bilinear", align_corners=align_corners)
    return y.reshape(*x.shape[:-2], *sides).to(x.dtype)


AS_STORED: dict[str, Function] = {
    "resize_bilinear": resize_bilinear,
    "upsample_bilinear": upsample_bilinear,
    "upsample_nearest_neighbor": upsample_nearest_neighbor,
}
