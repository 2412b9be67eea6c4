"""Operations that move elements, at any shape and any parameters, against NumPy; convolutions against plain loops."""

import itertools
from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from evm_deploy.errors import BundleError
from evm_deploy.runtimes.mil.ops import OPERATIONS
from evm_deploy.tolerances import MIL_FP32

shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)


def apply(kind: str, /, **arguments: Any) -> Any:
    results = OPERATIONS[kind].call(arguments)
    return results[0] if len(results) == 1 else results


def counted(shape: tuple[int, ...]) -> Tensor:
    return torch.arange(np.prod(shape, dtype=int)).reshape(shape)


@given(st.data(), shapes)
def test_slices(data: st.DataObject, shape: tuple[int, ...]) -> None:
    """As NumPy cuts, with bounds beyond the ends, from the end, and backwards."""
    number = st.integers(-5, 5)
    rows = [data.draw(st.tuples(number, number, number.filter(bool), st.booleans(), st.booleans())) for _ in shape]
    squeezed = [data.draw(st.booleans()) and -side <= row[0] < side for side, row in zip(shape, rows, strict=True)]
    x, index = counted(shape), []
    for (begin, end, step, no_begin, no_end), single in zip(rows, squeezed, strict=True):
        index.append(begin if single else slice(None if no_begin else begin, None if no_end else end, step))
    begins, ends, steps, no_begins, no_ends = zip(*rows, strict=True)
    found = apply(
        "slice_by_index",
        x=x,
        begin=begins,
        end=ends,
        stride=steps,
        begin_mask=no_begins,
        end_mask=no_ends,
        squeeze_mask=tuple(squeezed),
    )
    assert np.array_equal(found.numpy(), x.numpy()[tuple(index)])


@given(st.data(), shapes, st.sampled_from(["constant", "reflect", "replicate"]))
def test_pads(data: st.DataObject, shape: tuple[int, ...], mode: str) -> None:
    axes = data.draw(st.integers(0, len(shape)))
    pads = [
        data.draw(st.tuples(*[st.integers(0, side - 1 if mode == "reflect" else 3)] * 2)) if axis >= 0 else (0, 0)
        for axis, side in zip(range(axes - len(shape), axes), shape, strict=True)
    ]
    x = counted(shape)
    flat = tuple(places for pair in pads[len(shape) - axes :] for places in pair)
    found = apply("pad", x=x, pad=flat, mode=mode)
    assert np.array_equal(found.numpy(), np.pad(x.numpy(), pads, "edge" if mode == "replicate" else mode))


@given(st.data(), shapes, shapes)
def test_gathers(data: st.DataObject, shape: tuple[int, ...], places: tuple[int, ...]) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    side, x = shape[axis], counted(shape)
    indices = np.array(data.draw(st.lists(st.integers(-side, side - 1), min_size=1, max_size=6)), np.int32)
    found = apply("gather", x=x, indices=torch.from_numpy(indices), axis=axis)
    assert np.array_equal(found.numpy(), np.take(x.numpy(), indices, axis))
    along = np.resize(indices, shape)
    found = apply("gather_along_axis", x=x, indices=torch.from_numpy(along), axis=axis)
    assert np.array_equal(found.numpy(), np.take_along_axis(x.numpy(), along.astype(np.int64), axis))


@given(st.data(), shapes)
def test_joins_and_cuts(data: st.DataObject, shape: tuple[int, ...]) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = counted(shape)
    values = (x, x + 100, x + 200)
    joined = apply("concat", values=values, axis=axis)
    assert np.array_equal(joined.numpy(), np.concatenate([value.numpy() for value in values], axis))
    cut = apply("split", x=joined, num_splits=3, axis=axis)
    assert all(torch.equal(found, value) for found, value in zip(cut, values, strict=True))
    woven = apply("concat", values=values, axis=axis, interleave=True)
    for place, value in enumerate(values):
        every_third = [slice(None)] * len(shape)
        every_third[axis] = slice(place, None, 3)
        assert torch.equal(woven[tuple(every_third)], value)


@given(st.data(), shapes)
def test_repeats_and_turns(data: st.DataObject, shape: tuple[int, ...]) -> None:
    x = counted(shape)
    reps = data.draw(st.tuples(*[st.integers(1, 3)] * len(shape)))
    assert np.array_equal(apply("tile", x=x, reps=reps).numpy(), np.tile(x.numpy(), reps))
    perm = tuple(data.draw(st.permutations(range(len(shape)))))
    assert np.array_equal(apply("transpose", x=x, perm=perm).numpy(), x.numpy().transpose(perm))
    axes = tuple(data.draw(st.sets(st.integers(0, len(shape) - 1))))
    assert np.array_equal(apply("reverse", x=x, axes=axes).numpy(), np.flip(x.numpy(), axes))
    rank = len(shape) + 2
    new = tuple(data.draw(st.lists(st.integers(0, rank - 1), min_size=2, max_size=2, unique=True)))
    grown = apply("expand_dims", x=x, axes=tuple(axis - rank if axis % 2 else axis for axis in new))
    assert np.array_equal(grown.numpy(), np.expand_dims(x.numpy(), new))
    assert torch.equal(apply("squeeze", x=grown, axes=new), x)


@given(st.data())
def test_convolutions(data: st.DataObject) -> None:
    """Over one to three axes, against a sum over every place of every window."""
    axes = data.draw(st.integers(1, 3))
    groups, per_group, outputs = (data.draw(st.integers(1, 2)) for _ in range(3))
    sides, kernel, strides, dilations = (data.draw(st.tuples(*[st.integers(1, n)] * axes)) for n in (5, 3, 3, 2))
    pads = data.draw(st.tuples(*[st.integers(0, 2)] * (2 * axes)))
    spans = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]
    padded = [side + sum(pads[2 * i : 2 * i + 2]) for i, side in enumerate(sides)]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, groups * per_group, *sides, generator=generator)
    weight = torch.randn(groups * outputs, per_group, *kernel, generator=generator)
    arguments = {"strides": strides, "pad_type": "custom", "pad": pads, "dilations": dilations, "groups": groups}
    if any(span > side for span, side in zip(spans, padded, strict=True)):
        try:
            apply("conv", x=x, weight=weight, **arguments)
        except BundleError:
            return
        raise AssertionError("a window is larger than the image")

    image = np.pad(x[0].numpy(), [(0, 0), *zip(pads[::2], pads[1::2], strict=True)])
    counts = [(side - span) // stride + 1 for side, span, stride in zip(padded, spans, strides, strict=True)]
    expected = np.zeros((groups * outputs, *counts))
    for place in itertools.product(*map(range, counts)):
        for tap in itertools.product(*map(range, kernel)):
            at = tuple(p * s + t * d for p, s, t, d in zip(place, strides, tap, dilations, strict=True))
            for channel in range(groups * outputs):
                first = channel // outputs * per_group
                part = image[(slice(first, first + per_group), *at)]
                expected[(channel, *place)] += (part * weight[(channel, slice(None), *tap)].numpy()).sum()
    found = apply("conv", x=x, weight=weight, **arguments)
    assert np.allclose(found[0].numpy(), expected, atol=MIL_FP32)
