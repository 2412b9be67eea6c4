"""Collects the answers of the contenders to images. All answers are kept until the end, so that the figures do not
depend on how the images were distributed.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from evm_deploy.data.samples import LabelledInput, Samples
from evm_deploy.errors import BundleError, InputError
from evm_deploy.evaluation.contenders import Contender
from evm_deploy.evaluation.metrics import Ints
from evm_deploy.manifest import Preprocessing
from evm_deploy.preprocessing import place_image
from evm_deploy.runtimes import Runner
from evm_deploy.tasks import Metric, NotAnAnswer, find_task

TOP = 5
UNKNOWN = -1  # the label of an image whose class is not known


@dataclass(frozen=True)
class Answers:
    """The answers of c contenders to n images; k is 5, or the number of classes if that is smaller."""

    labels: Ints  # (n,) the true class, or UNKNOWN
    top: Ints  # (n, c, k) best classes, best first; of what is found in images k is 0
    runtimes: tuple[str, ...]  # (c,) what ran each contender
    untimed: tuple[str, ...] = ()  # why the times of some runtimes are meaningless
    # n times c, what a FindingsMetric needs of an image, by the names of these: its order decides between equal scores.
    # Of classes nothing.
    kept: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


def collect_answers(
    contenders: Sequence[Contender],
    samples: Mapping[Preprocessing, Samples],
    say: Callable[[str], None] = lambda stage: None,
) -> Answers:
    """Runs every image that can be read through every contender, one at a time.

    samples: the same images, for each preprocessing that a contender has.
    Raises BundleError for outputs that are not valid scores, InputError for too many damaged images.
    """
    labels: list[int] = []
    top: list[Ints] = []
    kept: dict[str, tuple[Any, ...]] = {}
    with contextlib.ExitStack() as stack:
        runners = [stack.enter_context(one.open()) for one in contenders]
        total = len(next(iter(samples.values())))
        for index in range(total):
            if index % max(1, total // 10) == 0:
                say(f"evaluating: {index} of {total} images")
            loaded = {preprocessing: each.load(index) for preprocessing, each in samples.items()}
            given = {key: sample for key, sample in loaded.items() if sample is not None}
            if len(given) < len(loaded):
                continue  # all are measured on the same images
            label = given[contenders[0].preprocessing].label
            labels.append(UNKNOWN if label is None else label)
            pairs = zip(contenders, runners, strict=True)
            answers = [answer(one, runner, given[one.preprocessing]) for one, runner in pairs]
            if isinstance(contenders[0].metric, Metric):
                top.append(np.stack(answers))
            else:
                kept[given[contenders[0].preprocessing].name] = tuple(answers)
        names = tuple(runner.name for runner in runners)
        untimed = tuple(dict.fromkeys(runner.untimed for runner in runners if runner.untimed is not None))
    count = min(TOP, contenders[0].classes) if isinstance(contenders[0].metric, Metric) else 0
    best = np.array(top, np.int64).reshape(len(labels), len(contenders), count)
    return Answers(np.array(labels, np.int64), best, names, untimed, dict(sorted(kept.items())))


def merge_answers(shards: Sequence[Answers]) -> Answers:
    """Joins the answers of all shards, in any order. Raises InputError if they were run in different ways."""
    for shard in shards[1:]:
        if shard.runtimes != shards[0].runtimes:
            ways = " and ".join(", ".join(runtimes) for runtimes in (shards[0].runtimes, shard.runtimes))
            raise InputError(
                f"the workers run the bundles in different ways: {ways}.", "install the same tools on all of them."
            )
    labels = np.concatenate([shard.labels for shard in shards])
    top = np.concatenate([shard.top for shard in shards])
    kept = {name: each for shard in shards for name, each in shard.kept.items()}
    return Answers(labels, top, shards[0].runtimes, shards[0].untimed, dict(sorted(kept.items())))


def answer(contender: Contender, runner: Runner, sample: LabelledInput) -> Any:
    """(k,), the best classes of an image, or what is kept of the findings in it.

    Raises BundleError for outputs that are not an answer.
    """
    task, metric = find_task(contender.task), contender.metric
    outputs = runner.run(sample.input)
    try:
        if isinstance(metric, Metric):
            return metric.find_best(outputs, contender.classes, TOP)
        assert task.locate is not None
        assert sample.truth is not None
        placement = place_image(*sample.size, contender.preprocessing)
        return metric.keep(task.locate(outputs, placement, None), sample.truth)
    except NotAnAnswer as problem:
        what = f"{contender.name} on {runner.name} {problem} for {sample.name}."
        raise BundleError(what, "verify the bundle, or make it again.") from None
