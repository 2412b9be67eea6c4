"""What follows a head, from what it gives for an image to results: boxes, masks, classes of pixels."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from evm_deploy.tasks import Shape

Sizes = tuple[tuple[int, int], ...]


class ImageSize(NamedTuple):
    """Of one image, as (width, height) in float32: `input` without padding, `scale` from the original to the input."""

    input: Tensor
    scale: Tensor


@dataclass(frozen=True)
class LastSteps:
    """A field of a head's row.

    task: the name of its row in the table of tasks.
    scale: the long and short side of the box that images are fitted into in a model of any size, where nothing says
        another.
    multiple: the network takes images whose sides are multiples of it; others are padded with zeros.
    find: of the network, what it gives for one image (batch 1), the image's size, and the (h, w) of the input and,
        where the results are in pixels of the original, of that.
    list_shapes: of the results for an input of (h, w), which may be names of lengths.
    parts: the modules of the network that `find` runs.
    combine: the results at (H, W) of an original image, from what the network gave for it at several scales, each with
        the (h, w) of the scale; None: there is no such test.
    """

    task: str
    scale: tuple[int, int]
    multiple: int
    find: Callable[[Any, tuple[Tensor, ...], ImageSize, Sizes], tuple[Tensor, ...]]
    list_shapes: Callable[[tuple[int | str, int | str]], list[Shape]]
    parts: tuple[str, ...] = ()
    combine: Callable[[Iterable[tuple[Tensor, tuple[int, int]]], tuple[int, int]], tuple[Tensor, ...]] | None = None

    @property
    def find_any_number(self) -> bool:
        """Whether the image decides how many results there are."""
        return any(isinstance(length, str) for shape in self.list_shapes((1, 1)) for length in shape)

    def give(self, network: Any, image: Tensor) -> tuple[Tensor, ...]:
        """What the network gives for the image (1, 3, h, w), normalised, in the dtype of the network."""
        given = network(pad_image(image, self.multiple))
        return given if isinstance(given, tuple) else (given,)

    def finish(
        self, network: Any, given: tuple[Tensor, ...], image: Tensor, original: tuple[int, int] | None = None
    ) -> tuple[Tensor, ...]:
        """The results of what was given for the image (1, 3, h, w), normalised, all float32; in its pixels, or those of
        the (H, W) `original` that was resized to it.

        Its rows below and columns to the right that are zero are padding.
        """
        h, w = image.shape[2:]
        content = find_content(image)
        if original is None:
            return self.find(network, given, ImageSize(content, torch.ones(2)), ((h, w),))
        sides = torch.stack([_find_end(torch.ones(side)) for side in reversed(original)])
        return self.find(network, given, ImageSize(content, content / sides), ((h, w), original))


def pad_image(image: Tensor, multiple: int) -> Tensor:
    """The image (1, 3, h, w) with zeros below and to the right, so that its sides are multiples."""
    h, w = image.shape[2:]
    # in this form they are known to be multiples where they are chosen at run time
    rows, columns = ((side + multiple - 1) // multiple * multiple for side in (h, w))
    return F.pad(image, (0, columns - w, 0, rows - h))


def find_content(image: Tensor) -> Tensor:
    """The (width, height) of an image (1, 3, h, w) without its last rows and columns that are zero, (2,) float32."""
    levels = image.abs()
    return torch.stack([_find_end(levels.amax(side)) for side in ((0, 1, 2), (0, 1, 3))])


def _find_end(levels: Tensor) -> Tensor:
    """One more than the last place of levels (n,) that is not zero."""
    ends = torch.arange(1, levels.shape[0] + 1, dtype=torch.float32)
    return torch.where(levels > 0, ends, torch.zeros(())).amax(0)
