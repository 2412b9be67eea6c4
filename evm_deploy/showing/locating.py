"""From the outputs of a detector or segmenter to what was found, in the pixels of the image.

A copy of this file and of those that it imports lies in packages for Linux: they import NumPy and Pillow alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from evm_deploy.showing.answers import NotAnAnswer
from evm_deploy.showing.findings import DetectedThings, Detection, PixelClasses, Placement, resize_nearest

Array = npt.NDArray[Any]


def locate_things(found: Sequence[Array], placement: Placement, labels: Sequence[str] | None) -> DetectedThings:
    """The things by boxes (n, 4) as corners, scores (n,), classes (n,) and, of instances, masks (n, h, w).

    Raises NotAnAnswer.
    """
    boxes, scores, indices = found[:3]
    if not np.isfinite(boxes).all() or not ((scores >= 0) & (scores <= 1)).all() or (indices < 0).any():
        raise NotAnAnswer("gives boxes that are none")
    (h, w), (rows, columns) = placement.original, placement.content
    placed = boxes.astype(np.float64) * np.tile([w / columns, h / rows], 2)
    cells = found[3] if len(found) > 3 else [None] * len(boxes)
    return DetectedThings(
        tuple(
            Detection(tuple(box), float(score), index, name_class(labels, index), placement.original, mask)
            for box, score, index, mask in zip(placed.tolist(), scores, indices.tolist(), cells, strict=True)
        )
    )


def locate_classes(found: Sequence[Array], placement: Placement, labels: Sequence[str] | None) -> PixelClasses:
    """The classes of pixels by a map of them (1, H, W). Raises NotAnAnswer."""
    if found[0].min(initial=0) < 0 or found[0].max(initial=0) > 0xFFFF:
        raise NotAnAnswer("gives classes that are none")
    label_map = resize_nearest(found[0][0], placement)
    return PixelClasses(label_map, {index: name_class(labels, index) for index in np.unique(label_map).tolist()})


def name_class(labels: Sequence[str] | None, index: int) -> str:
    """The name of a class, where it has one."""
    return labels[index] if labels is not None and index < len(labels) else f"class {index}"
