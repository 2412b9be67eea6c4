"""A segmenter in PyTorch that sees each image at several scales, as mmsegmentation tests: what it says is averaged."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from evm_deploy.decoding import UInt8
from evm_deploy.evaluation.evaluate_options import Scales
from evm_deploy.keep_ratio import find_scaled_size, resize_bilinear
from evm_deploy.manifest import Preprocessing
from evm_deploy.models.network import Network
from evm_deploy.preprocessing import normalise


class ScaledNetwork(nn.Module):
    """The network of a segmenter, as images uint8 (1, H, W, 3) go through it, their channels in its order."""

    def __init__(self, network: Network, steps: Preprocessing, scales: Scales) -> None:
        super().__init__()
        self._network, self._steps, self._scales = network, steps, scales

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """The results at (H, W)."""
        last_steps, pixels = self._network.last_steps, image[0].numpy()
        assert last_steps is not None
        assert last_steps.combine is not None
        h, w, _ = pixels.shape
        return last_steps.combine(make_passes(self._network, pixels, self._steps, self._scales), (h, w))


def make_passes(
    network: Network, image: UInt8, steps: Preprocessing, scales: Scales
) -> Iterator[tuple[Tensor, tuple[int, int]]]:
    """What the network gives for the image (H, W, 3) at each scale, turned back, and the (h, w) of that scale."""
    last_steps = network.last_steps
    assert last_steps is not None
    for ratio in scales.ratios:
        size = find_scaled_size(image.shape[0], image.shape[1], ratio)
        x = torch.from_numpy(normalise(resize_bilinear(image, size), steps))
        yield last_steps.give(network.module, x)[0], size
        if scales.flip:
            yield last_steps.give(network.module, x.flip(3))[0].flip(3), size
