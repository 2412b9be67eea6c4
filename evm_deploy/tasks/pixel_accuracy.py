"""How many pixels have the right class, as mmsegmentation measures it: mIoU, and accuracy of pixels and classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from evm_deploy.tasks.truth import IGNORED, TrueClasses, Truth

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from evm_deploy.showing.findings import Findings
    from evm_deploy.tasks.truth import Counts, Values

    Kept = npt.NDArray[np.int64]  # (3, classes): pixels that are right, that were found, and that are there


def keep_pixels(findings: Findings, truth: Truth) -> Kept:
    """The pixels of each class; those that do not count are left out."""
    import numpy as np

    assert isinstance(truth, TrueClasses)
    assert findings.label_map is not None
    counted = truth.label_map != IGNORED
    found, true = findings.label_map[counted].astype(np.int64), truth.label_map[counted].astype(np.int64)
    classes = 1 + int(max(found.max(initial=0), true.max(initial=0)))
    return np.stack([np.bincount(each, minlength=classes) for each in (true[found == true], found, true)])


def trust_pixels(findings: Findings) -> TrueClasses:
    """What a model finds, as the truth; in as few bytes as hold it, since maps of many images are kept."""
    import numpy as np

    assert findings.label_map is not None
    return TrueClasses(findings.label_map.astype(np.min_scalar_type(findings.label_map.max(initial=0))))


class PixelAccuracy:
    """`FindingsFigures`: over the pixels of all images together."""

    def __init__(self, kept: Sequence[Kept]) -> None:
        import numpy as np

        classes = max((each.shape[1] for each in kept), default=1)
        self._kept = np.zeros((len(kept), 3, classes), np.int64)
        for place, each in zip(self._kept, kept, strict=True):
            place[:, : each.shape[1]] = each

    @cached_property
    def figures(self) -> Mapping[str, float | None]:
        """mIoU over the classes that are there or were found; classes' accuracy over those that are there."""
        import numpy as np

        total: Any = self._kept.sum(0)
        right, _, true = total
        there, pixels = true > 0, int(true.sum())
        of_classes = float((right[there] / true[there]).mean()) if there.any() else None
        (main,) = _compute_means(total[None])
        return {
            "mIoU": None if np.isnan(main) else float(main),
            "pixel accuracy": float(right.sum() / pixels) if pixels else None,
            "class accuracy": of_classes,
        }

    @cached_property
    def by_class(self) -> Mapping[int, float]:
        """IoU of each class that is there."""
        right, found, true = self._kept.sum(0)
        return {index: float(right[index] / (found + true - right)[index]) for index in self.images_by_class}

    @cached_property
    def images_by_class(self) -> Mapping[int, int]:
        """By their pixels."""
        counts = (self._kept[:, 2] > 0).sum(0)
        return {index: int(count) for index, count in enumerate(counts) if count}

    def resample(self, counts: Counts) -> Values:
        """mIoU of each row of counts."""
        import numpy as np

        return _compute_means(np.einsum("bn,nkc->bkc", counts, self._kept))


def _compute_means(total: Any) -> Values:
    """mIoU of pixels (b, 3, classes), (b,); NaN: there is no pixel."""
    import numpy as np

    right, found, true = total[:, 0], total[:, 1], total[:, 2]
    union = found + true - right
    with np.errstate(invalid="ignore"):
        means: Values = np.where(union > 0, right / np.maximum(union, 1), 0).sum(1) / (union > 0).sum(1)
    return means
