"""From the logits of a UperNet to the class of each pixel, as mmsegmentation does it."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor


def resize_logits(logits: Tensor, *sizes: tuple[int, int]) -> Tensor:
    """Logits (B, classes, h, w) at the last (h, w) by way of the others: of the network's input, of the original."""
    for size in sizes:
        logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
    return logits


def find_labels(logits: Tensor, *sizes: tuple[int, int]) -> Tensor:
    """The class of each pixel of the last size, (B, H, W) int32; of equal logits the first class is taken."""
    return resize_logits(logits, *sizes).argmax(1).int()


def average_probabilities(passes: Iterable[tuple[Tensor, tuple[int, int]]], size: tuple[int, int]) -> Tensor:
    """The mean probabilities (B, classes, H, W) of several passes over an image of (H, W) `size`.

    A pass is the logits (B, classes, h, w), not mirrored, and the (h, w) of the network's input.
    """
    total, count = torch.zeros(()), 0
    for logits, scaled in passes:  # one at a time: they are large
        total, count = total + resize_logits(logits, scaled, size).softmax(1), count + 1
    return total / count
