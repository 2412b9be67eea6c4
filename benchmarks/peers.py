"""timm, which has the networks that ours are compared with, where it is installed."""

import functools
from types import ModuleType

import torch


@functools.cache
def import_timm() -> ModuleType | None:
    """timm, or None, and a line that says so, where it is not installed."""
    for name in ("nms", "qnms"):  # timm imports torchvision, which a CPU installation need not have
        torch.library.define(f"torchvision::{name}", "(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor")
    try:
        import timm
    except ImportError as error:
        print(f"no peers: {error}")
        return None
    return timm  # type: ignore[no-any-return]
