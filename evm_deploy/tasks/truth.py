"""What is in an image, by its annotations: what findings are held against."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from evm_deploy.showing.findings import Findings

    Counts = npt.NDArray[np.int64]
    Values = npt.NDArray[np.float64]

THINGS, LABEL_MAP = "things", "label maps"  # what annotations can give
IGNORED = 255  # the label of a pixel that does not count


@dataclass(frozen=True)
class Thing:
    """One thing in an image: its box as corners (x0, y0, x1, y1) and its area in pixels, and its class.

    crowd: many of them at once, with which found ones may agree and none has to. segmentation: of COCO, polygons or
    run lengths, where there is one.
    """

    box: tuple[float, float, float, float]
    area: float
    index: int
    crowd: bool = False
    segmentation: Any = None


@dataclass(frozen=True)
class TrueThings:
    """The things in an image of (h, w) `size`."""

    things: tuple[Thing, ...]
    size: tuple[int, int]


@dataclass(frozen=True, eq=False)
class TrueClasses:
    """The class of each pixel, (h, w) from 0; IGNORED: it does not count."""

    label_map: npt.NDArray[Any]


Truth = TrueThings | TrueClasses


class FindingsFigures(Protocol):
    """What findings in n images are worth, all together."""

    @property
    def figures(self) -> Mapping[str, float | None]:
        """Shares, 0 to 1, by name, the main one first; None: no image says anything of it."""
        ...

    @property
    def by_class(self) -> Mapping[int, float]:
        """The main figure of each class that is in the images."""
        ...

    @property
    def images_by_class(self) -> Mapping[int, int]:
        """How many images each of these is in."""
        ...

    def resample(self, counts: Counts) -> Values:
        """The main figure where each image counts as often as `counts` (b, n) says: (b,); NaN where it has none."""
        ...


@dataclass(frozen=True)
class FindingsMetric:
    """How right what a model finds in images is. `name` is its main figure; `truth`: what has to be known.

    prepare: raises MissingToolError where a library is missing. keep: what is needed of the findings in an image, and
    of what is true of it; any process can give it to `measure`. trust: what a model finds, taken for the truth.
    """

    name: str
    truth: str
    masks: bool  # the truth has to have masks
    prepare: Callable[[], None]
    keep: Callable[[Findings, Truth], Any]
    measure: Callable[[Sequence[Any]], FindingsFigures]
    trust: Callable[[Findings], Truth]
