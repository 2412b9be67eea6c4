"""From the logits of a UperNet to the class of each pixel, as mmsegmentation does it."""

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


def average_probabilities(passes: list[Tensor]) -> Tensor:
    """Of the logits of several passes over one image, each (B, classes, H, W) and turned back: the mean probability."""
    total = sum((each.softmax(1) for each in passes[1:]), passes[0].softmax(1))
    return total / len(passes)
