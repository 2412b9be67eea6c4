"""Reductions over axes, cumulative sums and normalisations. All sums are computed in float32, in PyTorch's order."""

from collections.abc import Callable

import torch
from torch import Tensor

from evm_deploy.runtimes.mil.ops.row import Function, Ints, Labels
from evm_deploy.runtimes.mil.problems import make_package_error, quote

Reduction = Callable[[Tensor, Ints, bool], Tensor]


def _make_reduction(function: Reduction) -> Function:
    def apply(x: Tensor, axes: Ints | None = None, keep_dims: bool = False) -> Tensor:
        axes = tuple(range(x.ndim)) if axes is None else axes
        return function(x, axes, keep_dims).to(x.dtype) if axes else x

    return apply


def _multiply(x: Tensor, axes: Ints, keep: bool) -> Tensor:
    for axis in sorted((axis % x.ndim for axis in axes), reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


def _average(x: Tensor, axes: Ints, keep: bool) -> Tensor:
    if not x.is_floating_point():
        raise make_package_error("it takes the mean of integers, which is not supported")
    return x.mean(axes, keepdim=keep)


def reduce_argmax(x: Tensor, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32") -> Tensor:
    """The index of the largest value along an axis."""
    return x.argmax(axis, keep_dims).to(_find_index_dtype(output_dtype))


def reduce_argmin(x: Tensor, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32") -> Tensor:
    """The index of the smallest value along an axis."""
    return x.argmin(axis, keep_dims).to(_find_index_dtype(output_dtype))


def cumsum(x: Tensor, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Tensor:
    """Sums up to each position. exclusive: without the value at the position; reverse: from the end."""
    x = x.flip(axis) if reverse else x
    total = x.cumsum(axis, dtype=x.dtype)
    if exclusive:  # subtracting x would lose digits
        total = torch.cat([torch.zeros_like(total.narrow(axis, 0, 1)), total.narrow(axis, 0, x.shape[axis] - 1)], axis)
    return total.flip(axis) if reverse else total


def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """exp(x) divided by its sum along an axis."""
    return x.softmax(axis)


def layer_norm(
    x: Tensor,
    axes: Ints | None = None,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    """(x - mean) / sqrt(variance + epsilon) over `axes`, times gamma plus beta, which have the shape of those axes."""
    axes = tuple(sorted(axis % x.ndim for axis in (range(x.ndim) if axes is None else axes)))
    shape = tuple(side if axis in axes else 1 for axis, side in enumerate(x.shape))
    centred = x - x.mean(axes, keepdim=True)
    y = centred * torch.rsqrt(centred.square().mean(axes, keepdim=True) + epsilon)
    y = y if gamma is None else y * gamma.reshape(shape)
    return y if beta is None else y + beta.reshape(shape)


def batch_norm(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    """(x - mean) / sqrt(variance + epsilon) for each channel of x (B, C, ...), times gamma plus beta."""
    return torch.nn.functional.batch_norm(x, mean, variance, gamma, beta, eps=epsilon)


def classify(probabilities: Tensor, classes: Labels) -> tuple[Tensor, Tensor]:
    """The index of the best class, and the probabilities in the order of the labels.

    An app gets the label and a dictionary from label to probability instead, so labels must be unique.
    """
    if len(set(classes)) != len(classes) or len(classes) != probabilities.numel():
        raise make_package_error(f"it has {len(set(classes))} different labels for {probabilities.numel()} classes")
    return probabilities.reshape(-1).argmax(), probabilities.reshape(-1)


def _find_index_dtype(name: str) -> torch.dtype:
    kinds = {"int32": torch.int32, "uint16": torch.uint16}
    if name not in kinds:
        raise make_package_error(f"its output_dtype {quote(name)} is not supported")
    return kinds[name]


WIDENED: dict[str, Function] = {
    "batch_norm": batch_norm,
    "cumsum": cumsum,
    "layer_norm": layer_norm,
    "reduce_l1_norm": _make_reduction(lambda x, axes, keep: x.abs().sum(axes, keep)),
    "reduce_l2_norm": _make_reduction(lambda x, axes, keep: x.square().sum(axes, keep).sqrt()),
    "reduce_log_sum_exp": _make_reduction(lambda x, axes, keep: x.logsumexp(axes, keep)),
    "reduce_max": _make_reduction(lambda x, axes, keep: x.amax(axes, keep)),
    "reduce_mean": _make_reduction(_average),
    "reduce_min": _make_reduction(lambda x, axes, keep: x.amin(axes, keep)),
    "reduce_prod": _make_reduction(_multiply),
    "reduce_sum": _make_reduction(lambda x, axes, keep: x.sum(axes, keep)),
    "reduce_sum_square": _make_reduction(lambda x, axes, keep: x.square().sum(axes, keep)),
    "softmax": softmax,
}
AS_STORED: dict[str, Function] = {
    "classify": classify,
    "reduce_argmax": reduce_argmax,
    "reduce_argmin": reduce_argmin,
}
