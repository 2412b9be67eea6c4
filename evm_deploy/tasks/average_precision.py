"""Average precision, as COCO measures it, of boxes and masks: pycocotools pairs what is found with what is there."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import TYPE_CHECKING, Any

from evm_deploy.optional import import_library
from evm_deploy.tasks.truth import Thing, TrueThings, Truth

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from evm_deploy.showing.findings import Findings
    from evm_deploy.tasks.truth import Counts, Values

    Bools = npt.NDArray[np.bool_]

NAMES = ("AP", "AP50", "AP75", "AP small", "AP medium", "AP large")  # as COCO prints them
MOST = 100  # detections of an image that count
TRUSTED = 0.3  # the score from which on a detection is taken for the truth
BOX, MASK = "bbox", "segm"  # COCO's names of what is compared


@dataclass(frozen=True)
class FoundThing:
    """One detection: its box as corners, its score, its class, and its mask as COCO's run lengths."""

    box: tuple[float, float, float, float]
    score: float
    index: int
    mask: Mapping[str, Any] | None


@dataclass(frozen=True)
class KeptThings:
    """Of one image: what was found, best first, and what is there."""

    found: tuple[FoundThing, ...]
    true: TrueThings


def prepare() -> None:
    """Raises MissingToolError where pycocotools is not installed."""
    _import_coco("cocoeval")


def _import_coco(name: str) -> ModuleType:
    return import_library(f"pycocotools.{name}")


def keep_things(findings: Findings, truth: Truth) -> KeptThings:
    """What average precision needs of an image."""
    from evm_deploy.showing.findings import DetectedThings
    from evm_deploy.showing.masks import encode_mask

    assert isinstance(truth, TrueThings)
    assert isinstance(findings, DetectedThings)
    found = [
        FoundThing(each.box, each.score, each.index, None if each.mask is None else encode_mask(each.mask))
        for each in findings.things[:MOST]
    ]
    return KeptThings(tuple(found), truth)


def trust_things(findings: Findings) -> TrueThings:
    """What a model is sure of."""
    from evm_deploy.showing.findings import DetectedThings
    from evm_deploy.showing.masks import encode_mask

    assert isinstance(findings, DetectedThings)
    sure = [each for each in findings.things if each.score >= TRUSTED]
    things = []
    for each in sure:
        x0, y0, x1, y1 = each.box
        mask = each.mask
        area = (x1 - x0) * (y1 - y0) if mask is None else float(mask.sum())
        things.append(Thing(each.box, area, each.index, segmentation=None if mask is None else encode_mask(mask)))
    return TrueThings(tuple(things), sure[0].size if sure else (1, 1))


def measure_boxes(kept: Sequence[KeptThings]) -> AveragePrecision:
    """Of boxes."""
    return AveragePrecision(kept, {"": BOX})


def measure_masks(kept: Sequence[KeptThings]) -> AveragePrecision:
    """Of masks, and of boxes beside them."""
    return AveragePrecision(kept, {"mask ": MASK, "box ": BOX})


class AveragePrecision:
    """`FindingsFigures` of what is compared, by what goes before their names: those of the first are the main ones."""

    def __init__(self, kept: Sequence[KeptThings], compared: Mapping[str, str]) -> None:
        self._compared, self._runs = list(compared), [_run(kept, what) for what in compared.values()]
        present = [index for one in kept for index in {each.index for each in one.true.things if not each.crowd}]
        self.images_by_class: Mapping[int, int] = Counter(present)

    @cached_property
    def figures(self) -> Mapping[str, float | None]:
        """COCO's six figures of each."""
        found: dict[str, float | None] = {}
        for prefix, run in zip(self._compared, self._runs, strict=True):
            found |= {prefix + name: None if v < 0 else float(v) for name, v in zip(NAMES, run.stats, strict=False)}
        return found

    @cached_property
    def by_class(self) -> Mapping[int, float]:
        """AP of each class that is in the images."""
        precision = self._runs[0].eval["precision"][:, :, :, 0, -1]  # (thresholds, recalls, classes)
        pairs = zip(self._runs[0].params.catIds, precision.transpose(2, 0, 1), strict=True)
        return {int(index) - 1: float(values.mean()) for index, values in pairs if (values > -1).all()}

    def resample(self, counts: Counts) -> Values:
        """AP of each row of counts (b, n): the pairs stay, their precision is computed anew."""
        import numpy as np

        run = self._runs[0]
        rows = run.evalImgs
        images, areas = len(run.params.imgIds), len(run.params.areaRng)
        found = []
        for index in range(len(run.params.catIds)):
            start = index * areas * images  # by class, then range of areas, all first, then image
            outcomes = [(at, row) for at, row in enumerate(rows[start : start + images]) if row is not None]
            if outcomes:
                found.append(_resample_class(outcomes, counts, run.params.recThrs))
        with np.errstate(invalid="ignore"):
            total = np.array(found).reshape(-1, len(counts))
            known = np.isfinite(total)
            means: Values = np.where(known, total, 0).sum(0) / known.sum(0)
        return means


def _resample_class(outcomes: Sequence[tuple[int, Any]], counts: Counts, recalls: Values) -> Values:
    """AP of a class, by COCO's outcomes in its images, for each row of counts; NaN: none counts that has it."""
    import numpy as np

    scores = np.concatenate([row["dtScores"] for _, row in outcomes])
    order = np.argsort(-scores, kind="mergesort")
    image = np.concatenate([np.full(len(row["dtScores"]), at) for at, row in outcomes])[order].astype(np.intp)
    matched = np.concatenate([row["dtMatches"] for _, row in outcomes], 1)[:, order] > 0  # (thresholds, found)
    counted = ~np.concatenate([row["dtIgnore"] for _, row in outcomes], 1)[:, order].astype(bool)
    present = np.zeros(counts.shape[1], np.int64)
    for at, row in outcomes:
        present[at] = int((np.asarray(row["gtIgnore"]) == 0).sum())
    found = []
    for count, total in zip(counts, counts @ present, strict=True):
        if not total:
            found.append(np.nan)
            continue
        weight = count[image]
        right, wrong = (np.cumsum(weight * each, 1) for each in (matched & counted, ~matched & counted))
        with np.errstate(invalid="ignore"):
            precision = np.nan_to_num(right / (right + wrong))
        precision = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]  # the best from each place on
        precision = np.pad(precision, ((0, 0), (0, 1)))  # a recall that is never reached
        places = [np.searchsorted(each / total, recalls, side="left") for each in right]
        found.append(float(np.mean([line[at] for line, at in zip(precision, places, strict=True)])))
    return np.array(found, np.float64)


def _run(kept: Sequence[KeptThings], compared: str) -> Any:
    """COCO's evaluation after its last step."""
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
        true, found = _make_dataset(kept, compared, True), _make_dataset(kept, compared, False)
        run = _import_coco("cocoeval").COCOeval(true, found, compared)
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run


def _make_dataset(kept: Sequence[KeptThings], compared: str, true: bool) -> Any:
    """COCO's index of what is there, or of what was found. Numbers are from 1: it takes 0 for none."""
    things: list[tuple[int, Thing | FoundThing]] = []
    for at, one in enumerate(kept, 1):
        things += [(at, each) for each in (one.true.things if true else one.found)]
    annotations = []
    for number, (at, each) in enumerate(things, 1):
        x0, y0, x1, y1 = each.box
        said: dict[str, Any] = {"id": number, "image_id": at, "category_id": each.index + 1, "iscrowd": 0}
        said |= {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0)}
        if isinstance(each, Thing):
            said |= {"area": each.area, "iscrowd": int(each.crowd), "segmentation": each.segmentation}
        else:
            said |= {"score": each.score}
            if compared == MASK:
                said |= {"segmentation": each.mask, "area": float(_import_coco("mask").area(each.mask))}
        annotations.append(said)
    classes = {each.index for one in kept for each in one.true.things}
    classes |= {each.index for one in kept for each in one.found}
    dataset = _import_coco("coco").COCO()
    dataset.dataset = {
        "images": [{"id": at, "height": h, "width": w} for at, (h, w) in enumerate((one.true.size for one in kept), 1)],
        "annotations": annotations,
        "categories": [{"id": index + 1, "name": str(index)} for index in sorted(classes)],
    }
    dataset.createIndex()
    return dataset
