"""What distinguishes one Vim from another, and those that were published."""

import math
from dataclasses import dataclass

STRIDES = (16, 8)
USUAL_SIZE = 224  # pixels: what the published networks were trained with


@dataclass(frozen=True)
class VimConfig:
    """Shape of a network. Its position table fixes the size of its images."""

    dim: int  # C
    depth: int
    grid: tuple[int, int] = (14, 14)  # rows and columns of patches
    stride: int = 16  # pixels from patch to patch
    patch: int = 16  # pixels: the side of a patch
    d_state: int = 16
    d_conv: int = 4
    d_inner: int | None = None  # D; None: 2 C
    dt_rank: int | None = None  # R; None: ceil(C / 16)
    num_classes: int = 1000

    @property
    def image_size(self) -> tuple[int, int]:
        """The (h, w) of its images."""
        rows, columns = self.grid
        return (rows - 1) * self.stride + self.patch, (columns - 1) * self.stride + self.patch

    @property
    def channels(self) -> int:
        """D, the channels that are scanned."""
        return 2 * self.dim if self.d_inner is None else self.d_inner

    @property
    def rank(self) -> int:
        """R, the rank of the step projection."""
        return math.ceil(self.dim / 16) if self.dt_rank is None else self.dt_rank


VARIANTS = {
    "tiny": VimConfig(192, 24),
    "small": VimConfig(384, 24),
    "base": VimConfig(768, 24),
    "tiny+": VimConfig(192, 24, grid=(27, 27), stride=8),
    "small+": VimConfig(384, 24, grid=(27, 27), stride=8),
}


def name_variant(config: VimConfig) -> str | None:
    """The published network with the same dimensions, "+" with patches that overlap."""
    shape = (config.dim, config.depth, config.grid, config.stride)
    return next(
        (name for name, known in VARIANTS.items() if (known.dim, known.depth, known.grid, known.stride) == shape), None
    )


def infer_stride(side: int, patch: int) -> int:
    """The stride of a network with a grid of `side` patches: that of images of the usual size, else the usual one, at
    which no pixel is skipped."""
    return next((s for s in STRIDES if (USUAL_SIZE - patch) // s + 1 == side), min(STRIDES[0], patch))
