"""Convolutions, matrix products and pooling. Sums are computed in float32, in PyTorch's order."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from evm_deploy.runtimes.mil.ops.row import Function, Ints, Tensors
from evm_deploy.runtimes.mil.problems import make_package_error, quote
from evm_deploy.runtimes.mil.program import check_size

CONVOLUTIONS = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}
TRANSPOSED = {3: F.conv_transpose1d, 4: F.conv_transpose2d, 5: F.conv_transpose3d}
AVERAGES = {3: F.avg_pool1d, 4: F.avg_pool2d, 5: F.avg_pool3d}
MAXIMA = {3: F.max_pool1d, 4: F.max_pool2d, 5: F.max_pool3d}


def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> Tensor:
    """x (B, C, ...) with weight (D, C / groups, ...), over one to three axes."""
    if x.ndim not in CONVOLUTIONS or weight.ndim != x.ndim:
        raise make_package_error(
            f"its input of shape {tuple(x.shape)} and weight of shape {tuple(weight.shape)} do not fit"
        )
    one = (1,) * (x.ndim - 2)
    strides, dilations = strides or one, dilations or one
    pads = _compute_pads(x.shape[2:], weight.shape[2:], strides, dilations, pad_type, pad)
    before, after = pads[::2], pads[1::2]
    if before != after:
        x, before = _pad(x, pads, 0.0), (0,) * len(before)
    return CONVOLUTIONS[x.ndim](x, weight, bias, strides, before, dilations, groups)


def conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    pad: Ints | None = None,
    output_shape: Ints | None = None,
    pad_type: str = "valid",
    strides: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> Tensor:
    """x (B, C, ...) with weight (C, D / groups, ...), over one to three axes; `pad` is cut off the result."""
    if x.ndim not in TRANSPOSED or weight.ndim != x.ndim or pad_type not in ("valid", "custom"):
        raise make_package_error(
            f"its input of shape {tuple(x.shape)}, weight of shape {tuple(weight.shape)} and pad_type "
            f"{quote(pad_type)} are not supported"
        )
    one = (1,) * (x.ndim - 2)
    strides, dilations = strides or one, dilations or one
    pads = _compute_pads(x.shape[2:], weight.shape[2:], strides, dilations, pad_type, pad)
    reaches = [(size - 1) * by + 1 for size, by in zip(weight.shape[2:], dilations, strict=True)]
    sides = [(side - 1) * by + reach for side, by, reach in zip(x.shape[2:], strides, reaches, strict=True)]
    check_size([x.shape[0], weight.shape[1] * groups, *sides], "conv_transpose")
    y = TRANSPOSED[x.ndim](x, weight, bias, strides, 0, 0, groups, dilations)
    for axis, (before, after) in enumerate(zip(pads[::2], pads[1::2], strict=True), 2):
        y = y.narrow(axis, before, y.shape[axis] - before - after)
    if output_shape is not None and tuple(output_shape) != tuple(y.shape):
        raise make_package_error(f"its output_shape {output_shape} is not {tuple(y.shape)}")
    return y


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (..., C) with weight (D, C)."""
    return F.linear(x, weight, bias)


def matmul(x: Tensor, y: Tensor, transpose_x: bool = False, transpose_y: bool = False) -> Tensor:
    """x y, over the last two axes."""
    x = x.mT if transpose_x and x.ndim > 1 else x
    y = y.mT if transpose_y and y.ndim > 1 else y
    return torch.matmul(x, y)


def einsum(values: Tensors, equation: str) -> Tensor:
    """The sum of products that the equation describes."""
    return torch.einsum(equation, *values)


def avg_pool(
    x: Tensor,
    kernel_sizes: Ints,
    pad_type: str,
    strides: Ints | None = None,
    pad: Ints | None = None,
    exclude_padding_from_average: bool = False,
    ceil_mode: bool = False,
) -> Tensor:
    """Means of windows; padding counts as zeros unless it is excluded."""
    x, strides, pads = _check_windows(x, kernel_sizes, pad_type, strides, pad, ceil_mode)
    if ceil_mode:  # PyTorch decides which windows begin inside, and pads evenly, as this mode requires
        pool = AVERAGES[x.ndim]
        return pool(x, kernel_sizes, strides, pads[::2], True, not exclude_padding_from_average)
    mean = AVERAGES[x.ndim](_pad(x, pads, 0.0), kernel_sizes, strides)
    if not exclude_padding_from_average:
        return mean
    return mean / AVERAGES[x.ndim](_pad(torch.ones_like(x[:1, :1]), pads, 0.0), kernel_sizes, strides)


def max_pool(
    x: Tensor,
    kernel_sizes: Ints,
    pad_type: str,
    strides: Ints | None = None,
    pad: Ints | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """Largest values of windows; padding never counts."""
    x, strides, pads = _check_windows(x, kernel_sizes, pad_type, strides, pad, ceil_mode)
    if ceil_mode:
        return MAXIMA[x.ndim](x, kernel_sizes, strides, pads[::2], ceil_mode=True)
    return MAXIMA[x.ndim](_pad(x, pads, -math.inf), kernel_sizes, strides)


def _check_windows(
    x: Tensor, sizes: Ints, pad_type: str, strides: Ints | None, pad: Ints | None, ceil_mode: bool
) -> tuple[Tensor, Ints, Ints]:
    """Checks a pooling. Returns x, the strides and the padding."""
    if x.ndim not in AVERAGES or len(sizes) != x.ndim - 2 or min(sizes) < 1:
        raise make_package_error(f"its windows {sizes} do not fit {tuple(x.shape)}")
    strides = strides or (1,) * len(sizes)
    pads = _compute_pads(x.shape[2:], sizes, strides, (1,) * len(sizes), pad_type, pad)
    if ceil_mode and pads[::2] != pads[1::2]:
        raise make_package_error(f"its ceil_mode with pad {pads} is not supported")
    return x, strides, pads


def _compute_pads(
    sides: Sequence[int], kernel: Sequence[int], strides: Ints, dilations: Ints, pad_type: str, pad: Ints | None
) -> Ints:
    """The padding before and after each axis."""
    axes = len(sides)
    if not len(strides) == len(dilations) == len(kernel) == axes or min(*strides, *dilations) < 1:
        raise make_package_error(f"its strides {strides} or dilations {dilations} do not fit {axes} axes")
    match pad_type:
        case "valid":
            return (0,) * (2 * axes)
        case "custom":
            if pad is None or len(pad) != 2 * axes or min(pad) < 0:
                raise make_package_error(f"its pad {pad} does not fit {axes} axes")
            return pad
        case "same" | "same_lower":
            pads = []
            for side, size, stride, dilation in zip(sides, kernel, strides, dilations, strict=True):
                total = max(0, (math.ceil(side / stride) - 1) * stride + (size - 1) * dilation + 1 - side)
                less, more = total // 2, total - total // 2
                pads += [less, more] if pad_type == "same" else [more, less]
            return tuple(pads)
    raise make_package_error(f"its pad_type {quote(pad_type)} is not supported")


def _pad(x: Tensor, pads: Ints, value: float) -> Tensor:
    before_after = list(zip(pads[::2], pads[1::2], strict=True))
    sides = (side + sum(places) for side, places in zip(x.shape[2:], before_after, strict=True))
    check_size([*x.shape[:2], *sides], "padded input")
    return F.pad(x, [places for pair in reversed(before_after) for places in pair], value=value)


WIDENED: dict[str, Function] = {
    "avg_pool": avg_pool,
    "conv": conv,
    "conv_transpose": conv_transpose,
    "einsum": einsum,
    "linear": linear,
    "matmul": matmul,
    "max_pool": max_pool,
}
