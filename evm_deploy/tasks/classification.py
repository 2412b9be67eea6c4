"""Classification: one output with a score for each class, logits or the probabilities made of them.

The functions import NumPy where they run: the command line reads the table of tasks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from evm_deploy.errors import InputError
from evm_deploy.showing.answers import NotAnAnswer
from evm_deploy.tasks.io_spec import IOSpec, Shape
from evm_deploy.tasks.task import GoldenLimits, Metric, PostProcess, SearchScore, Shown, Task

if TYPE_CHECKING:
    from torch import Tensor

    from evm_deploy.tasks.agreement import Comparison
    from evm_deploy.tasks.task import Array, Ints

LOGITS = IOSpec("logits", ("batch", "classes"), "float32", "NC", "logits")
PROBABILITIES = IOSpec("probabilities", ("batch", "classes"), "float32", "NC", "probabilities", (0.0, 1.0))
ROUNDING = 1e-3  # how far a probability may be beyond 0 and 1, in any precision
NO_SCORES = "gives no scores"


def _are_outputs(outputs: Sequence[IOSpec]) -> bool:
    meanings = [spec.meaning for spec in outputs]
    return meanings in ([LOGITS.meaning], [PROBABILITIES.meaning]) and len(outputs[0].shape) == 2


def _recognises(shapes: Sequence[Shape]) -> bool:
    return [len(shape) for shape in shapes] == [2]


def _describe_outputs(shapes: Sequence[Shape], names: Sequence[str] = (), *, softmax: bool = False) -> tuple[IOSpec]:
    (shape,) = shapes
    if len(shape) == 2 and shape[1] == 1:
        raise InputError(
            "the model has one class: its probability would be 1 for every image.",
            "train it with two classes, yes and no, or export it as features.",
        )
    kind = PROBABILITIES if softmax else LOGITS
    return (dataclasses.replace(kind, name=names[0] if names else kind.name, shape=shape),)


def _count_classes(outputs: Sequence[IOSpec]) -> int | None:
    classes = outputs[0].shape[-1]
    return classes if isinstance(classes, int) else None


def _is_probabilities(spec: IOSpec) -> bool:
    return spec.meaning == PROBABILITIES.meaning


def _post_process(outputs: Sequence[IOSpec]) -> PostProcess | None:
    return _softmax if _is_probabilities(outputs[0]) else None


def _softmax(outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(scores.softmax(-1) for scores in outputs)


def _compare(
    found: Sequence[Array], expected: Sequence[Array], outputs: Sequence[IOSpec], tolerance: float
) -> list[Comparison]:
    """The first class must agree too, unless the expected scores have two classes within the tolerance of each other.

    Probabilities are compared as the logits they came from, up to a constant: a thousand of them are all so small that
    any tolerance would pass.
    """
    from evm_deploy.tasks.agreement import Comparison, check_shapes, compare
    from evm_deploy.tasks.scores import centre_logits, has_tie

    check_shapes(found, expected, outputs)
    (one,), (other,), (spec,) = found, expected, outputs
    if _is_probabilities(spec):
        one, other = centre_logits(one), centre_logits(other)
    agreement = compare(one, other, scores=True)
    passed = agreement.relative <= tolerance and (agreement.top1 == 1.0 or has_tie(other, tolerance))
    return [Comparison(spec.name, agreement, passed)]


def _show(found: Sequence[Array], outputs: Sequence[IOSpec], labels: Sequence[str] | None, count: int) -> Shown:
    """The best classes and their probabilities."""
    from evm_deploy.tasks.scores import find_best, find_probabilities

    scores, spec = found[0], outputs[0]
    if not _are_scores(scores, spec):
        raise NotAnAnswer(NO_SCORES)
    shares = scores.astype("float64") if _is_probabilities(spec) else find_probabilities(scores)
    classes = shares.shape[-1]
    if classes == 1:
        raise NotAnAnswer("has one class, whose probability is 1 for every image")
    names = [f"class {index}" for index in range(classes)] if labels is None else labels
    if len(names) != classes:
        raise NotAnAnswer(f"has {len(names)} labels for {classes} classes")
    return tuple((names[index], float(shares[0, index])) for index in find_best(shares, count)[0])


def _are_scores(scores: Array, spec: IOSpec) -> bool:
    import numpy as np

    if not spec.fits(scores.shape, str(scores.dtype)) or not np.isfinite(scores).all():
        return False
    return not _is_probabilities(spec) or bool(((scores > -ROUNDING) & (scores < 1 + ROUNDING)).all())


def _find_best(found: Sequence[Array], classes: int, count: int) -> Ints:
    import numpy as np

    from evm_deploy.tasks.scores import find_best

    if found[0].shape != (1, classes) or not np.isfinite(found[0]).all():
        raise NotAnAnswer(NO_SCORES)
    best: Ints = find_best(found[0], count)[0]
    return best


def _check_labels(
    labels: Sequence[int | None], data: Sequence[str] | None, classes: int, names: Sequence[str] | None
) -> None:
    """A label is the index of a class. Where the model's classes have no names, the order of the data's counts."""
    if names is None and data is not None and len(data) != classes:
        what = f"the data names {len(data)} classes; the model has {classes}, and no labels to match them."
        raise InputError(what, "export it with --labels, or name the classes of the data by their index.")
    highest = max((label for label in labels if label is not None), default=0)
    if highest >= classes:
        what = f"the data has class {highest}, the bundles have classes 0 to {classes - 1}."
        raise InputError(what, "evaluate on data of the bundles' own classes, or export with --labels that name them.")


def _keep(found: Sequence[Array]) -> Array:
    scores: Array = found[0][0]
    return scores


def _measure_drop(expected: Array, found: Array, labels: Ints | None) -> float:
    """Points of top-1; without labels, of agreement with the classes that are expected."""
    right: Any = _find_first(expected) if labels is None else labels
    return 100 * float((_find_first(expected) == right).mean() - (_find_first(found) == right).mean())


def _find_first(kept: Array) -> Ints:
    best: Ints = kept.argmax(1)
    return best


def _measure_divergence(expected: Array, found: Array) -> float:
    from evm_deploy.tasks.scores import measure_divergence

    return measure_divergence(expected, found)


CLASSIFICATION = Task(
    name="classification",
    title="a classifier",
    are_outputs=_are_outputs,
    recognises=_recognises,
    describe_outputs=_describe_outputs,
    empty_outputs=False,
    probabilities=PROBABILITIES,
    count_classes=_count_classes,
    post_process=_post_process,
    given_by_label=_is_probabilities,
    compare=_compare,
    limit_golden=GoldenLimits,
    show=_show,
    locate=None,
    metric=Metric("top-1", _check_labels, _find_best),
    search_score=SearchScore("top-1", _keep, _measure_drop, _measure_divergence, _find_first),
)
