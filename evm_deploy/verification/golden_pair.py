"""Computes the golden pair of a bundle: an input and its outputs, with which any machine can check the bundle."""

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from evm_deploy.bundle import Manifest, Sample
from evm_deploy.exporters.deployed import build_reference
from evm_deploy.models.network import Network
from evm_deploy.runtimes.pytorch import TorchRunner


def compute_golden_pair(network: Network, manifest: Manifest, images: Mapping[str, npt.NDArray[Any]]) -> Sample:
    """Returns the first verification image and PyTorch's outputs for it."""
    image = next(iter(images.values()))
    return Sample(image, tuple(TorchRunner(build_reference(network, manifest)).run(image)))
