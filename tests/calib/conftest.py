"""Statistics of given values, float bundles, and photographs to calibrate them on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.datasets import load_sample_images

from evm_deploy import Bundle
from evm_deploy.calib.statistics import TensorStatistics


@pytest.fixture(scope="session")
def statistics_of() -> Callable[..., TensorStatistics]:
    """statistics_of(values, ...): each an image of one channel."""

    def make(*images: Any) -> TensorStatistics:
        found = TensorStatistics(1)
        for values in images:
            found.update(np.asarray(values, np.float32).reshape(1, 1, -1), 1)
        return found

    return make


@pytest.fixture(scope="session")
def networks(exported: Callable[..., Bundle]) -> Callable[..., Path]:
    """networks(**options): the float32 ONNX bundle of the micro network at 64 pixels."""
    return lambda **options: exported("micro", **options).path


@pytest.fixture(scope="session")
def photographs() -> list[npt.NDArray[np.uint8]]:
    """Sixteen pieces of two photographs, uint8 (96, 96, 3)."""
    images = load_sample_images().images
    return [
        np.ascontiguousarray(image[y : y + 192 : 2, x : x + 192 : 2])
        for image in images
        for y in (0, 200)
        for x in (0, 140, 280, 420)
    ]
