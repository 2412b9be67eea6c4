"""Every operation in a saved program, in float32 and in float16, against float64."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from evm_deploy.runtimes.mil.ops import OPERATIONS
from evm_deploy.tolerances import MIL_OPERATION

Case = tuple[Callable[[Any, Any], Any], Callable[[Any], Any]]


def rows(mb: Any, v: Any) -> Any:
    """The last two rows of k."""
    return mb.slice_by_size(x=v.k, begin=[5, 0], size=[2, 5])


def slices(mb: Any, v: Any) -> Any:
    """The first maps of y, (2, 4, 5)."""
    return mb.squeeze(x=mb.slice_by_size(x=v.y, begin=[0, 0, 0, 0], size=[2, 1, 4, 5]), axes=[1])


# Each: what builds the operation from the builder and the inputs, and what it means. The inputs are x and y
# (2, 3, 4, 5) around 0, p positive, m a boolean mask, i a row of places, k (7, 5), q (1, 8, 3, 4), and weights.
ELEMENTWISE: dict[str, Case] = {
    "add": (lambda mb, v: mb.add(x=v.x, y=v.y), lambda v: v.x + v.y),
    "add/broadcast": (lambda mb, v: mb.add(x=v.x, y=v.row), lambda v: v.x + v.row),
    "sub": (lambda mb, v: mb.sub(x=v.x, y=v.y), lambda v: v.x - v.y),
    "mul": (lambda mb, v: mb.mul(x=v.x, y=v.y), lambda v: v.x * v.y),
    "real_div": (lambda mb, v: mb.real_div(x=v.x, y=v.p), lambda v: v.x / v.p),
    "floor_div": (lambda mb, v: mb.floor_div(x=v.x, y=v.p), lambda v: (v.x / v.p).floor()),
    "mod": (lambda mb, v: mb.mod(x=v.x, y=v.p), lambda v: v.x - (v.x / v.p).floor() * v.p),
    "pow": (lambda mb, v: mb.pow(x=v.p, y=v.y), lambda v: v.p**v.y),
    "maximum": (lambda mb, v: mb.maximum(x=v.x, y=v.y), lambda v: torch.where(v.x > v.y, v.x, v.y)),
    "minimum": (lambda mb, v: mb.minimum(x=v.x, y=v.y), lambda v: torch.where(v.x < v.y, v.x, v.y)),
    "equal": (lambda mb, v: mb.equal(x=v.x, y=v.x), lambda v: v.x == v.x),
    "not_equal": (lambda mb, v: mb.not_equal(x=v.x, y=v.y), lambda v: v.x != v.y),
    "less": (lambda mb, v: mb.less(x=v.x, y=v.y), lambda v: v.x < v.y),
    "less_equal": (lambda mb, v: mb.less_equal(x=v.x, y=v.x), lambda v: v.x <= v.x),
    "greater": (lambda mb, v: mb.greater(x=v.x, y=v.y), lambda v: v.x > v.y),
    "greater_equal": (lambda mb, v: mb.greater_equal(x=v.x, y=v.x), lambda v: v.x >= v.x),
    "abs": (lambda mb, v: mb.abs(x=v.x), lambda v: v.x.abs()),
    "ceil": (lambda mb, v: mb.ceil(x=v.x), lambda v: v.x.ceil()),
    "clip": (lambda mb, v: mb.clip(x=v.x, alpha=v.c(-0.5), beta=v.c(1.25)), lambda v: v.x.clamp(-0.5, 1.25)),
    "cos": (lambda mb, v: mb.cos(x=v.x), lambda v: v.x.cos()),
    "erf": (lambda mb, v: mb.erf(x=v.x), lambda v: v.x.erf()),
    "exp": (lambda mb, v: mb.exp(x=v.x), lambda v: v.x.exp()),
    "exp2": (lambda mb, v: mb.exp2(x=v.x), lambda v: 2**v.x),
    "floor": (lambda mb, v: mb.floor(x=v.x), lambda v: v.x.floor()),
    "gelu": (lambda mb, v: mb.gelu(x=v.x), lambda v: v.x / 2 * (1 + (v.x / math.sqrt(2)).erf())),
    "gelu/tanh": (
        lambda mb, v: mb.gelu(x=v.x, mode="TANH_APPROXIMATION"),
        lambda v: v.x / 2 * (1 + (math.sqrt(2 / math.pi) * (v.x + 0.044715 * v.x**3)).tanh()),
    ),
    "gelu/sigmoid": (
        lambda mb, v: mb.gelu(x=v.x, mode="SIGMOID_APPROXIMATION"),
        lambda v: v.x / (1 + (-1.702 * v.x).exp()),
    ),
    "identity": (lambda mb, v: mb.identity(x=v.x), lambda v: v.x),
    "inverse": (lambda mb, v: mb.inverse(x=v.p, epsilon=v.c(0.125)), lambda v: 1 / (v.p + 0.125)),
    "leaky_relu": (lambda mb, v: mb.leaky_relu(x=v.x, alpha=v.c(0.25)), lambda v: torch.where(v.x > 0, v.x, v.x / 4)),
    "log": (lambda mb, v: mb.log(x=v.p), lambda v: v.p.log()),
    "log/epsilon": (lambda mb, v: mb.log(x=v.p, epsilon=v.c(0.5)), lambda v: (v.p + 0.5).log()),
    "logical_and": (lambda mb, v: mb.logical_and(x=v.m, y=v.all), lambda v: v.m & v.all),
    "logical_not": (lambda mb, v: mb.logical_not(x=v.m), lambda v: ~v.m),
    "logical_or": (lambda mb, v: mb.logical_or(x=v.m, y=v.all), lambda v: v.m | v.all),
    "logical_xor": (lambda mb, v: mb.logical_xor(x=v.m, y=v.all), lambda v: v.m ^ v.all),
    "relu": (lambda mb, v: mb.relu(x=v.x), lambda v: v.x.clamp(min=0)),
    "relu6": (lambda mb, v: mb.relu6(x=v.x), lambda v: v.x.clamp(0, 6)),
    "round": (lambda mb, v: mb.round(x=v.x), lambda v: v.x.round()),
    "rsqrt": (lambda mb, v: mb.rsqrt(x=v.p, epsilon=v.c(0.125)), lambda v: (v.p + 0.125) ** -0.5),
    "select": (lambda mb, v: mb.select(cond=v.m, a=v.x, b=v.y), lambda v: torch.where(v.m, v.x, v.y)),
    "sigmoid": (lambda mb, v: mb.sigmoid(x=v.x), lambda v: 1 / (1 + (-v.x).exp())),
    "sigmoid_hard": (
        lambda mb, v: mb.sigmoid_hard(x=v.x, alpha=v.c(0.25), beta=v.c(0.5)),
        lambda v: (v.x / 4 + 0.5).clamp(0, 1),
    ),
    "sign": (lambda mb, v: mb.sign(x=v.x), lambda v: v.x.sign()),
    "silu": (lambda mb, v: mb.silu(x=v.x), lambda v: v.x / (1 + (-v.x).exp())),
    "sin": (lambda mb, v: mb.sin(x=v.x), lambda v: v.x.sin()),
    "softplus": (lambda mb, v: mb.softplus(x=v.x), lambda v: (1 + v.x.exp()).log()),
    "sqrt": (lambda mb, v: mb.sqrt(x=v.p), lambda v: v.p.sqrt()),
    "square": (lambda mb, v: mb.square(x=v.x), lambda v: v.x * v.x),
    "tanh": (lambda mb, v: mb.tanh(x=v.x), lambda v: v.x.tanh()),
    "threshold": (lambda mb, v: mb.threshold(x=v.x, alpha=v.c(0.25)), lambda v: v.x.clamp(min=0.25)),
    "cast": (lambda mb, v: mb.cast(x=v.x, dtype="int32"), lambda v: v.x.trunc().int()),
    "cast/float": (lambda mb, v: mb.cast(x=v.i, dtype="fp32"), lambda v: v.i.double()),
    "cast/bool": (lambda mb, v: mb.cast(x=mb.relu(x=v.x), dtype="bool"), lambda v: v.x > 0),
}
SHAPING: dict[str, Case] = {
    "concat": (lambda mb, v: mb.concat(values=[v.x, v.y], axis=-2), lambda v: torch.cat([v.x, v.y], 2)),
    "concat/interleaved": (
        lambda mb, v: mb.concat(values=[v.x, v.y], axis=1, interleave=True),
        lambda v: torch.stack([v.x[:, 0], v.y[:, 0], v.x[:, 1], v.y[:, 1], v.x[:, 2], v.y[:, 2]], 1),
    ),
    "stack": (lambda mb, v: mb.stack(values=[v.k, v.k], axis=1), lambda v: torch.stack([v.k, v.k], 1)),
    "split": (lambda mb, v: mb.split(x=v.x, num_splits=2, axis=-2), lambda v: (v.x[:, :, :2], v.x[:, :, 2:])),
    "split/sizes": (
        lambda mb, v: mb.split(x=v.x, split_sizes=[1, 3, 1], axis=3),
        lambda v: (v.x[..., :1], v.x[..., 1:4], v.x[..., 4:]),
    ),
    "reshape": (lambda mb, v: mb.reshape(x=v.x, shape=[0, 0, -1, 10]), lambda v: v.x.reshape(2, 3, 2, 10)),
    "transpose": (lambda mb, v: mb.transpose(x=v.x, perm=[0, 2, 3, 1]), lambda v: v.x.movedim(1, 3)),
    "expand_dims": (lambda mb, v: mb.expand_dims(x=v.k, axes=[0, -1]), lambda v: v.k[None, :, :, None]),
    "squeeze": (lambda mb, v: mb.squeeze(x=v.row, axes=[0, -3]), lambda v: v.row[0, 0]),
    "squeeze/all": (lambda mb, v: mb.squeeze(x=v.row), lambda v: v.row[0, 0, 0]),
    "reverse": (lambda mb, v: mb.reverse(x=v.x, axes=[-1, 1]), lambda v: v.x.flip(1, 3)),
    "slice_by_index": (
        lambda mb, v: mb.slice_by_index(
            x=v.x,
            begin=[0, -2, 0, 1],
            end=[1, 0, 3, -1],
            stride=[1, 1, 2, 3],
            end_mask=[False, True, False, False],
            squeeze_mask=[True, False, False, False],
        ),
        lambda v: v.x[0, -2:, 0:3:2, 1:-1:3],
    ),
    "slice_by_index/backwards": (
        lambda mb, v: mb.slice_by_index(
            x=v.k, begin=[-1, 3], end=[0, 0], stride=[-2, -1], begin_mask=[True, False], end_mask=[True, True]
        ),
        lambda v: v.k[[6, 4, 2, 0]][:, [3, 2, 1, 0]],
    ),
    "slice_by_size": (
        lambda mb, v: mb.slice_by_size(x=v.x, begin=[0, 1, -3, 0], size=[2, 2, 2, -1]),
        lambda v: v.x[:, 1:3, 1:3],
    ),
    "pad": (
        lambda mb, v: mb.pad(x=v.x, pad=[1, 0, 2, 3], constant_val=v.c(0.5)),
        lambda v: F.pad(v.x, (2, 3, 1, 0), value=0.5),
    ),
    "pad/reflect": (
        lambda mb, v: mb.pad(x=v.x, pad=[3, 1, 0, 4], mode="reflect"),
        lambda v: F.pad(v.x, (0, 4, 3, 1), "reflect"),
    ),
    "pad/replicate": (
        lambda mb, v: mb.pad(x=v.x, pad=[1, 2, 0, 4], mode="replicate"),
        lambda v: F.pad(v.x, (0, 4, 1, 2), "replicate"),
    ),
    "tile": (lambda mb, v: mb.tile(x=v.k, reps=[2, 3]), lambda v: torch.cat([torch.cat([v.k] * 3, 1)] * 2, 0)),
    "fill": (lambda mb, v: mb.fill(shape=mb.shape(x=v.k), value=v.c(0.5)), lambda v: torch.full((7, 5), 0.5)),
    "range_1d": (lambda mb, v: mb.range_1d(start=2, end=v.five, step=2), lambda v: torch.tensor([2, 4])),
    "shape": (lambda mb, v: mb.shape(x=v.x), lambda v: torch.tensor([2, 3, 4, 5])),
    "gather": (lambda mb, v: mb.gather(x=v.x, indices=v.i, axis=2), lambda v: v.x[:, :, [3, 0, 1, 3]]),
    "gather/batched": (
        lambda mb, v: mb.gather(x=v.x, indices=[[0, 2], [1, 1]], axis=1, batch_dims=1),
        lambda v: torch.stack([v.x[0, [0, 2]], v.x[1, [1, 1]]]),
    ),
    "gather_along_axis": (
        lambda mb, v: mb.gather_along_axis(x=v.k, indices=[[0, 1, 2, -1, 4]], axis=0),
        lambda v: torch.stack([v.k[0, 0], v.k[1, 1], v.k[2, 2], v.k[6, 3], v.k[4, 4]])[None],
    ),
    "scatter/update": (
        lambda mb, v: mb.scatter(data=v.k, indices=[3, 0], updates=rows(mb, v), axis=0, mode="update"),
        lambda v: torch.stack([v.k[6], *v.k[1:3], v.k[5], *v.k[4:]]),
    ),
    "scatter/max": (
        lambda mb, v: mb.scatter(data=v.k, indices=[1, 2], updates=rows(mb, v), axis=-2, mode="max"),
        lambda v: torch.stack([v.k[0], *torch.maximum(v.k[1:3], v.k[5:]), *v.k[3:]]),
    ),
    "scatter_along_axis/update": (
        lambda mb, v: mb.scatter_along_axis(
            data=mb.slice_by_size(x=v.k, begin=[0, 0], size=[2, 5]),
            indices=[[4, 3, 2], [0, 1, 2]],
            updates=mb.slice_by_size(x=v.k, begin=[5, 0], size=[2, 3]),
            axis=1,
            mode="update",
        ),
        lambda v: torch.stack(
            [torch.cat([v.k[0, :2], v.k[5, :3].flip(0)]), torch.cat([v.k[6, :3], v.k[1, 3:]])],
        ),
    ),
    "scatter_nd/update": (
        lambda mb, v: mb.scatter_nd(data=v.x, indices=[[0, 2], [1, 0]], updates=slices(mb, v), mode="update"),
        lambda v: torch.stack([torch.stack([v.x[0, 0], v.x[0, 1], v.y[0, 0]]), torch.stack([v.y[1, 0], *v.x[1, 1:]])]),
    ),
    "upsample_nearest_neighbor": (
        lambda mb, v: mb.upsample_nearest_neighbor(x=v.x, scale_factor_height=3, scale_factor_width=2),
        lambda v: v.x.repeat_interleave(3, 2).repeat_interleave(2, 3),
    ),
    "upsample_nearest_neighbor/fractional": (
        lambda mb, v: mb.upsample_nearest_neighbor(x=v.x, scale_factor_width=np.float32(1.5)),
        lambda v: v.x[..., [0, 0, 1, 2, 2, 3, 4]],
    ),
    "depth_to_space": (
        lambda mb, v: mb.depth_to_space(x=v.q, block_size=2),
        lambda v: v.q.reshape(1, 2, 2, 2, 3, 4).permute(0, 3, 4, 1, 5, 2).reshape(1, 2, 6, 8),
    ),
    "space_to_depth": (
        lambda mb, v: mb.space_to_depth(x=mb.depth_to_space(x=v.q, block_size=2), block_size=2),
        lambda v: v.q,
    ),
    "pixel_shuffle": (lambda mb, v: mb.pixel_shuffle(x=v.q, upscale_factor=2), lambda v: F.pixel_shuffle(v.q, 2)),
    "pixel_unshuffle": (
        lambda mb, v: mb.pixel_unshuffle(x=mb.pixel_shuffle(x=v.q, upscale_factor=2), downscale_factor=np.uint32(2)),
        lambda v: v.q,
    ),
}
SUMS: dict[str, Case] = {
    "conv": (lambda mb, v: mb.conv(x=v.x, weight=v.w, pad_type="valid"), lambda v: F.conv2d(v.x, v.w)),
    "conv/custom": (
        lambda mb, v: mb.conv(
            x=v.x, weight=v.w, bias=v.b, strides=[2, 1], pad_type="custom", pad=[1, 0, 2, 3], dilations=[1, 2]
        ),
        lambda v: F.conv2d(F.pad(v.x, (2, 3, 1, 0)), v.w, v.b, (2, 1), 0, (1, 2)),
    ),
    "conv/depthwise": (
        lambda mb, v: mb.conv(x=v.x, weight=v.g, pad_type="same", groups=3),
        lambda v: F.conv2d(v.x, v.g, padding=1, groups=3),
    ),
    "conv/same": (
        lambda mb, v: mb.conv(x=v.x, weight=v.w, pad_type="same", strides=[2, 2]),
        lambda v: F.conv2d(F.pad(v.x, (1, 1, 0, 1)), v.w, stride=2),
    ),
    "conv/same_lower": (
        lambda mb, v: mb.conv(x=v.x, weight=v.w, pad_type="same_lower", strides=[2, 2]),
        lambda v: F.conv2d(F.pad(v.x, (1, 1, 1, 0)), v.w, stride=2),
    ),
    "conv_transpose": (
        lambda mb, v: mb.conv_transpose(x=v.x, weight=v.t, bias=v.b, strides=[2, 3], groups=3),
        lambda v: F.conv_transpose2d(v.x, v.t, v.b, (2, 3), groups=3),
    ),
    "conv_transpose/custom": (
        lambda mb, v: mb.conv_transpose(
            x=v.x, weight=v.t, strides=[2, 2], pad_type="custom", pad=[1, 0, 2, 1], dilations=[1, 2]
        ),
        lambda v: F.conv_transpose2d(v.x, v.t, stride=2, dilation=(1, 2))[:, :, 1:, 2:-1],
    ),
    "scatter": (
        lambda mb, v: mb.scatter(data=v.k, indices=[1, 1], updates=rows(mb, v), axis=0),
        lambda v: torch.stack([v.k[0], v.k[1] + v.k[5] + v.k[6], *v.k[2:]]),
    ),
    "scatter/sub": (
        lambda mb, v: mb.scatter(data=v.k, indices=[1, 2], updates=rows(mb, v), axis=0, mode="sub"),
        lambda v: torch.stack([v.k[0], *(v.k[1:3] - v.k[5:]), *v.k[3:]]),
    ),
    "scatter_along_axis": (
        lambda mb, v: mb.scatter_along_axis(
            data=v.k, indices=[[1] * 5, [2] * 5], updates=rows(mb, v), axis=0, mode="mul"
        ),
        lambda v: torch.stack([v.k[0], *(v.k[1:3] * v.k[5:]), *v.k[3:]]),
    ),
    "scatter_nd": (
        lambda mb, v: mb.scatter_nd(data=v.k, indices=[[[1], [1]]], updates=mb.expand_dims(x=rows(mb, v), axes=[0])),
        lambda v: torch.stack([v.k[0], v.k[1] + v.k[5] + v.k[6], *v.k[2:]]),
    ),
    "linear": (
        lambda mb, v: mb.linear(x=v.x, weight=v.l, bias=v.seven),
        lambda v: (v.x[..., None, :] * v.l).sum(-1) + v.seven,
    ),
    "matmul": (lambda mb, v: mb.matmul(x=v.x, y=v.y, transpose_y=True), lambda v: v.x @ v.y.mT),
    "matmul/both": (
        lambda mb, v: mb.matmul(x=v.x, y=v.y, transpose_x=True, transpose_y=False),
        lambda v: v.x.mT @ v.y,
    ),
    "einsum": (
        lambda mb, v: mb.einsum(values=[v.x, v.e], equation="nchw,nwhu->nchu"),
        lambda v: (v.x[..., None] * v.e.permute(0, 2, 1, 3)[:, None]).sum(3),
    ),
    "avg_pool": (
        lambda mb, v: mb.avg_pool(x=v.x, kernel_sizes=[2, 3], strides=[2, 1], pad_type="custom", pad=[1, 1, 1, 0]),
        lambda v: F.avg_pool2d(F.pad(v.x, (1, 0, 1, 1)), (2, 3), (2, 1)),
    ),
    "avg_pool/excluded": (
        lambda mb, v: mb.avg_pool(
            x=v.x, kernel_sizes=[3, 3], pad_type="same", exclude_padding_from_average=True, strides=[1, 1]
        ),
        lambda v: F.avg_pool2d(v.x, 3, 1, 1, count_include_pad=False),
    ),
    "avg_pool/ceil": (
        lambda mb, v: mb.avg_pool(x=v.x, kernel_sizes=[3, 2], strides=[2, 2], pad_type="valid", ceil_mode=True),
        lambda v: F.avg_pool2d(v.x, (3, 2), 2, ceil_mode=True),
    ),
    "max_pool": (
        lambda mb, v: mb.max_pool(x=v.x, kernel_sizes=[3, 2], strides=[1, 2], pad_type="custom", pad=[1, 1, 0, 1]),
        lambda v: F.pad(v.x, (0, 1, 1, 1), value=-9).unfold(2, 3, 1).unfold(3, 2, 2).amax((-1, -2)),
    ),
    "max_pool/ceil": (
        lambda mb, v: mb.max_pool(x=v.x, kernel_sizes=[2, 2], strides=[2, 2], pad_type="valid", ceil_mode=True),
        lambda v: F.max_pool2d(v.x, 2, ceil_mode=True),
    ),
    "upsample_bilinear": (
        lambda mb, v: mb.upsample_bilinear(x=v.x, scale_factor_height=3, scale_factor_width=2, align_corners=False),
        lambda v: F.interpolate(v.x, scale_factor=(3, 2), mode="bilinear", align_corners=False),
    ),
    "upsample_bilinear/corners": (
        lambda mb, v: mb.upsample_bilinear(x=v.x, scale_factor_width=np.float32(1.5)),
        lambda v: F.interpolate(v.x, (4, 7), mode="bilinear", align_corners=True),
    ),
    "resize_bilinear": (
        lambda mb, v: mb.resize_bilinear(
            x=v.x, target_size_height=3, target_size_width=7, sampling_mode="UNALIGN_CORNERS"
        ),
        lambda v: F.interpolate(v.x, (3, 7), mode="bilinear", align_corners=False),
    ),
    "batch_norm": (
        lambda mb, v: mb.batch_norm(x=v.x, mean=v.n, variance=v.n2, gamma=v.n2, beta=v.n, epsilon=v.c(0.125)),
        lambda v: (v.x - v.chan(v.n)) / (v.chan(v.n2) + 0.125).sqrt() * v.chan(v.n2) + v.chan(v.n),
    ),
    "cumsum": (lambda mb, v: mb.cumsum(x=v.x, axis=-1), lambda v: v.x.cumsum(3)),
    "cumsum/exclusive": (
        lambda mb, v: mb.cumsum(x=v.x, axis=2, exclusive=True),
        lambda v: v.x.cumsum(2) - v.x,
    ),
    "cumsum/reverse": (
        lambda mb, v: mb.cumsum(x=v.x, axis=2, exclusive=True, reverse=True),
        lambda v: v.x.sum(2, keepdim=True) - v.x.cumsum(2),
    ),
    "layer_norm": (
        lambda mb, v: mb.layer_norm(x=v.x, axes=[-3], gamma=v.n2, beta=v.n, epsilon=v.c(0.125)),
        lambda v: (
            (v.x - v.x.mean(1, True)) / (v.x.var(1, keepdim=True, correction=0) + 0.125).sqrt() * v.chan(v.n2)
            + v.chan(v.n)
        ),
    ),
    "layer_norm/two": (
        lambda mb, v: mb.layer_norm(x=v.x, axes=[3, 2], epsilon=v.c(0.125)),
        lambda v: (v.x - v.x.mean((2, 3), True)) / (v.x.var((2, 3), keepdim=True, correction=0) + 0.125).sqrt(),
    ),
    "softmax": (lambda mb, v: mb.softmax(x=v.x, axis=1), lambda v: v.x.exp() / v.x.exp().sum(1, keepdim=True)),
    "reduce_argmax": (lambda mb, v: mb.reduce_argmax(x=v.x, axis=-1), lambda v: v.x.argmax(3).int()),
    "reduce_argmin": (
        lambda mb, v: mb.reduce_argmin(x=v.x, axis=1, keep_dims=True),
        lambda v: v.x.argmin(1, keepdim=True).int(),
    ),
    "reduce_l1_norm": (lambda mb, v: mb.reduce_l1_norm(x=v.x, axes=[1]), lambda v: v.x.abs().sum(1)),
    "reduce_l2_norm": (lambda mb, v: mb.reduce_l2_norm(x=v.x, axes=[1]), lambda v: (v.x**2).sum(1).sqrt()),
    "reduce_log_sum_exp": (lambda mb, v: mb.reduce_log_sum_exp(x=v.x, axes=[3]), lambda v: v.x.exp().sum(3).log()),
    "reduce_max": (lambda mb, v: mb.reduce_max(x=v.x, axes=[-1, 0]), lambda v: v.x.amax((0, 3))),
    "reduce_min": (lambda mb, v: mb.reduce_min(x=v.x, axes=[2], keep_dims=True), lambda v: v.x.amin(2, keepdim=True)),
    "reduce_mean": (lambda mb, v: mb.reduce_mean(x=v.x, axes=[2, 3]), lambda v: v.x.sum((2, 3)) / 20),
    "reduce_prod": (lambda mb, v: mb.reduce_prod(x=v.x, axes=[1, -1]), lambda v: v.x.prod(3).prod(1)),
    "reduce_sum": (lambda mb, v: mb.reduce_sum(x=v.x), lambda v: v.x.sum()),
    "reduce_sum_square": (lambda mb, v: mb.reduce_sum_square(x=v.x, axes=[0]), lambda v: (v.x**2).sum(0)),
}
CASES = ELEMENTWISE | SHAPING | SUMS
ELSEWHERE = {"classify", "quantize", "dequantize"}  # and the compressed constants: tested beside this file


def given(dtype: torch.dtype) -> dict[str, Tensor]:
    """The inputs of all cases."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    floats = {"x": normal(2, 3, 4, 5), "y": normal(2, 3, 4, 5), "row": normal(1, 1, 1, 5)}
    floats |= {
        "p": normal(2, 3, 4, 5).abs() + 0.25,
        "k": normal(7, 5),
        "q": normal(1, 8, 3, 4),
        "e": normal(2, 5, 4, 2),
    }
    mask = torch.rand((2, 3, 4, 5), generator=generator) < 0.5
    whole = {"i": torch.tensor([3, 0, 1, 3], dtype=torch.int32), "five": torch.tensor([5], dtype=torch.int32)}
    return floats | whole | {"bits": mask.to(torch.int32)}


def constants(dtype: torch.dtype) -> dict[str, Tensor]:
    """Weights, which are constant in the programs."""
    generator = torch.Generator().manual_seed(1)
    shapes = {
        "w": (6, 3, 3, 3),
        "g": (6, 1, 3, 3),
        "t": (3, 2, 3, 2),
        "b": (6,),
        "l": (7, 5),
        "seven": (7,),
        "n": (3,),
        "n2": (3,),
    }
    made = {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}
    return made | {"n2": made["n2"].abs() + 0.5}


def body(mb: Any, x: Any, y: Any, row: Any, p: Any, k: Any, q: Any, e: Any, i: Any, five: Any, bits: Any) -> Any:
    """All cases, on the values of the builder; each result is an output of its own name."""
    from coremltools.converters.mil.mil import types

    number = np.float16 if types.fp16 == x.dtype else np.float32
    dtype = torch.float16 if number is np.float16 else torch.float32
    m = mb.cast(x=bits, dtype="bool")
    values = {name: mb.const(val=value.numpy()) for name, value in constants(dtype).items()}
    v = SimpleNamespace(x=x, y=y, row=row, p=p, k=k, q=q, e=e, i=i, m=m, five=mb.squeeze(x=five), c=number, **values)
    v.all = mb.logical_not(x=mb.equal(x=bits, y=bits))
    v.all = mb.logical_not(x=v.all)
    results = []
    for name, (build, _) in CASES.items():
        made = build(mb, v)
        for part, value in enumerate(made if isinstance(made, (tuple, list)) else [made]):
            kind = "fp32" if value.dtype in (types.fp16, types.fp32) else "int32"
            results.append(mb.cast(x=mb.identity(x=value), dtype=kind, name=f"out_{list(CASES).index(name)}_{part}"))
    return tuple(results)


@pytest.fixture(scope="module", params=["fp32", "fp16"])
def results(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    save_program: Callable[..., Path],
    evaluate: Callable[..., dict[str, Tensor]],
) -> tuple[torch.dtype, Mapping[str, Tensor]]:
    dtype = {"fp32": torch.float32, "fp16": torch.float16}[request.param]
    inputs = given(dtype)
    package = save_program(tmp_path_factory.mktemp(request.param) / "all.mlpackage", body, inputs)
    return dtype, evaluate(package, **inputs)


@pytest.mark.parametrize("name", CASES)
def test_it_means_what_float64_says(results: tuple[torch.dtype, Mapping[str, Tensor]], name: str) -> None:
    """In float16 no result is further from the exact one than the rounding of one float32 result to float16."""
    dtype, found = results
    exact = {key: t.double() if t.is_floating_point() else t for key, t in (given(dtype) | constants(dtype)).items()}
    v = SimpleNamespace(**exact, m=exact["bits"] == 1, chan=lambda t: t[:, None, None])
    v.all = torch.ones_like(v.m)
    expected = CASES[name][1](v)
    for part, exactly in enumerate(expected if isinstance(expected, tuple) else [expected]):
        result = found[f"out_{list(CASES).index(name)}_{part}"]
        assert result.shape == exactly.shape
        if not exactly.is_floating_point() or name in EXACT:
            assert torch.equal(result.double(), exactly.double())
            continue
        error, size = (result.double() - exactly).abs(), exactly.abs()
        allowed = MIL_OPERATION * max(1.0, float(size.max())) + (half_a_step(size) if dtype == torch.float16 else 0)
        assert (error <= allowed).all(), float((error / allowed).max())


EXACT = {*SHAPING, "abs", "ceil", "clip", "floor", "identity", "maximum", "minimum", "relu", "round", "select"}


def half_a_step(size: Tensor) -> Tensor:
    """Half the distance between neighbours in float16, at values of this size."""
    return 2.0 ** (size.clamp(min=2.0**-14).log2().floor() - 11)


ALL = torch.arange(1 << 16).to(torch.uint16).view(torch.float16)  # every float16 there is


@pytest.mark.parametrize("name", "abs ceil floor relu round square".split())
def test_it_rounds_the_exact_result(name: str) -> None:
    """As IEEE defines it: of these, float32 holds the result, or enough of it for a second rounding to do no harm."""
    (found,) = OPERATIONS[name].call({"x": ALL})
    assert same(found, getattr(torch, name)(ALL.double()).half())


@pytest.mark.parametrize("name", "add sub mul real_div maximum minimum".split())
def test_it_rounds_the_exact_result_of_two(name: str) -> None:
    x, y = ALL, ALL[torch.randperm(1 << 16, generator=torch.Generator().manual_seed(0))]
    (found,) = OPERATIONS[name].call({"x": x, "y": y})
    assert same(found, getattr(torch, name.removeprefix("real_"))(x.double(), y.double()).half())


@pytest.mark.parametrize("name", "cos exp exp2 sigmoid silu softplus tanh".split())
def test_it_rounds_as_pytorch(name: str) -> None:
    """PyTorch's own float16 operations on the CPU compute in float32 and round once too."""
    (found,) = OPERATIONS[name].call({"x": ALL})
    assert same(found, getattr(torch, name, getattr(F, name, None))(ALL))


def same(found: Tensor, expected: Tensor) -> bool:
    """To the bit, but for the sign of 0 and the bits of NaN."""
    return bool(((found == expected) | (found.isnan() & expected.isnan())).all())


def test_every_operation_is_tested() -> None:
    tested = {name.split("/")[0] for name in CASES} | ELSEWHERE
    assert {name for name in OPERATIONS if not name.startswith("constexpr_")} == tested
