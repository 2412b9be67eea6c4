"""Integers for weights, and scales and zero points for values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evm_deploy.calib.onnx.scheme import LARGEST_PAIR, ONNXRUNTIME, TENSORRT, quantise_weights
from evm_deploy.calib.ranges import Range

SHAPES = [((3, 4), 0), ((5, 3), 1), ((4, 3, 2, 3), 0), ((6, 1, 3, 3), 0), ((2, 5, 3), (0, 2))]


@given(case=st.sampled_from(SHAPES), scale=st.sampled_from([1e-20, 1e-3, 1.0, 1e10]), seed=st.integers(0, 99))
def test_weights_are_rounded_to_the_nearest(
    case: tuple[tuple[int, ...], int | tuple[int, ...]], scale: float, seed: int
) -> None:
    shape, axis = case
    weights = (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)
    integers, scales = quantise_weights(weights, axis)
    axes = (axis,) if isinstance(axis, int) else axis
    along = scales.reshape([size if i in axes else 1 for i, size in enumerate(shape)])
    assert integers.dtype == np.int8
    assert np.abs(integers.astype(np.int64)).max() <= 127
    assert (np.abs(integers * along - weights) <= 0.5001 * along).all()


@given(seed=st.integers(0, 999), spread=st.sampled_from([0.0, 0.1, 1.0]))
def test_no_pair_of_neighbours_overflows_16_bits(seed: int, spread: float) -> None:
    """In the order of the kernels: over the channels of a pixel first, in fours from the beginning of a row."""
    rng = np.random.default_rng(seed)
    weights = (rng.choice([-1, 1], (4, 6, 3, 3)) + spread * rng.standard_normal((4, 6, 3, 3))).astype(np.float32)
    integers, _ = quantise_weights(weights, 0)
    pairs = integers.transpose(0, 2, 3, 1).reshape(4, -1, 2).astype(np.int64).sum(-1)
    assert np.abs(pairs).max() <= LARGEST_PAIR
    assert np.abs(pairs).max() * 255 <= np.iinfo(np.int16).max + 0  # what vpmaddubsw saturates at
    columns, _ = quantise_weights(weights.reshape(4, -1).T, 1)
    assert np.abs(columns.T.reshape(4, -1, 2).astype(np.int64).sum(-1)).max() <= LARGEST_PAIR


def test_a_channel_of_zeros_keeps_a_scale() -> None:
    integers, scales = quantise_weights(np.zeros((2, 3), np.float32), 0)
    assert not integers.any()
    assert (scales > 0).all()


def test_a_least_scale_is_kept() -> None:
    integers, scales = quantise_weights(np.full((2, 3), 1e-9, np.float32), 0, np.array([1.0, 0.0], np.float32))
    assert scales[0] == 1.0
    assert not integers[0].any()
    assert integers[1].any()


@given(low=st.floats(-1e6, 0), high=st.floats(1e-6, 1e6))
def test_zero_is_exact_and_the_ends_are_there(low: float, high: float) -> None:
    scale, zero = ONNXRUNTIME.compute_parameters(Range(low, high))
    assert zero.dtype == np.uint8
    assert (0 - int(zero)) * scale <= low + 0.51 * scale
    assert (255 - int(zero)) * scale >= high - 0.51 * scale
    scale, zero = TENSORRT.compute_parameters(Range(-high, high))
    assert zero == 0
    assert zero.dtype == np.int8
    assert 127 * scale == pytest.approx(high, rel=1e-6)
