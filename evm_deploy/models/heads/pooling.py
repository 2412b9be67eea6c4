"""Adaptive average pooling as two matrix products, which every runtime has, for maps of every size."""

import torch
from torch import Tensor


def pool_adaptively(x: Tensor, side: int) -> Tensor:
    """(B, C, h, w) -> (B, C, side, side), each the mean of its bin; bins overlap where they do not divide the map."""
    rows, columns = (make_pooling(length, side, x) for length in x.shape[2:])
    # of rank 4: a constant matrix on the right of a product would be taken for the weights of a layer
    return rows @ x @ columns.transpose(0, 1)[None, None]


def make_pooling(length: int, bins: int, like: Tensor) -> Tensor:
    """(bins, length): bin i has the mean of the places from floor(i length / bins) to ceil((i + 1) length / bins)."""
    bin = torch.arange(bins, device=like.device)[:, None]
    first, end = bin * length // bins, ((bin + 1) * length + bins - 1) // bins
    place = torch.arange(length, device=like.device)
    return (place >= first).logical_and(place < end).to(like.dtype) / (end - first).to(like.dtype)
