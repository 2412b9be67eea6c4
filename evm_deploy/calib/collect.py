"""Runs images through a model once and collects statistics of tensors. They can be cached, to survive interruptions."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evm_deploy.calib import resume
from evm_deploy.calib.statistics import NotFinite, TensorStatistics
from evm_deploy.data.samples import LabelledInput, Samples
from evm_deploy.errors import BundleError, InputError

Tap = Callable[[npt.NDArray[Any]], Mapping[str, npt.NDArray[np.float32]]]  # an input → every watched tensor
Progress = Callable[[str], None]

STEPS = 20  # number of progress messages
EVERY = 10.0  # seconds between writes of the cache; one write takes less than a second


def collect_statistics(
    tap: Tap,
    channel_axes: Mapping[str, int],
    samples: Samples,
    *,
    cache: Path | None,
    key: str,
    progress: Progress,
    every: float = EVERY,
) -> dict[str, TensorStatistics]:
    """Collects statistics of the tensors in `channel_axes` (name: axis of its channels) over all samples.

    Images are read in a shuffled order that depends only on their number, so that a moving average does not end on one
    class. With `cache`, a file, the state is saved there every few seconds. A later call with the same `key` (a hash of
    the graph and its tensors) and the same data continues from there; its results are identical to the bit. Memory
    does not grow with the number of images.

    Raises BundleError: a tensor, which is named, is not finite; InputError: no image could be used, or too many are
    corrupt; OutputError: the cache cannot be written (the previous one is still intact).
    """
    order = np.random.default_rng(0).permutation(len(samples)).tolist()
    identity = resume.compute_identity(key, channel_axes, samples)
    found = resume.load_statistics(cache, identity, samples, progress) if cache else None
    start, statistics = found or (0, {})
    kept, total = (time.monotonic() if start else -np.inf), len(samples)
    for done in range(start + 1, total + 1):
        sample = samples.load(order[done - 1])
        if sample is not None:
            _update(statistics, tap, channel_axes, sample)
        if cache and (done == total or time.monotonic() - kept >= every):
            resume.store_statistics(cache, identity, done, samples, statistics)
            kept = time.monotonic()
        if done == total or done % max(1, total // STEPS) == 0:
            progress(f"calibrating: {done} of {total} images")
    if not statistics:
        raise InputError("no image could be used for calibration.", "use other data.")
    return statistics


def _update(
    statistics: dict[str, TensorStatistics], tap: Tap, channel_axes: Mapping[str, int], sample: LabelledInput
) -> None:
    tensors = tap(sample.input)
    for name, axis in channel_axes.items():
        values = tensors[name]
        if name not in statistics:
            statistics[name] = TensorStatistics(values.shape[axis])
        try:
            statistics[name].update(values, axis)
        except NotFinite:
            fix = "use a bundle of another checkpoint: its weights, or its values for this image, overflow."
            raise BundleError(f"the tensor {name} holds NaN or an infinity for {sample.name}.", fix) from None
