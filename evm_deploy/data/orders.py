"""Whether a model's outputs stand in another order than the classes of the data, by its answers to labelled images."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
SHOWN = 4
CERTAIN = 4  # standard deviations of what chance makes of two equal orders: 3 in 100,000
OF_THEIR_OWN = 0.9  # share of classes that mostly get one output: fewer have one in a network that has learnt nothing


@dataclass(frozen=True)
class ClassOrder:
    """An order that fits the answers far better than the one that was taken."""

    outputs: tuple[int, ...]  # the output that each class seems to have
    top1: float  # share of right answers in this order, on images that it was not made of
    taken: float  # share in the order that was taken

    def describe(self, classes: tuple[str, ...]) -> str:
        """The warning, for people. classes: the names, in the order that was taken."""
        moved = [f"{classes[at]} is output {output}" for at, output in enumerate(self.outputs) if at != output]
        more = f" and {len(moved) - SHOWN} more" if len(moved) > SHOWN else ""
        return (
            f"the classes seem to stand in another order: {', '.join(moved[:SHOWN])}{more}; "
            f"in it top-1 is {self.top1:.1%}, not {self.taken:.1%}: export with --labels in the order of the training"
        )


def find_better_order(labels: Ints, found: Ints, classes: int) -> ClassOrder | None:
    """The order of the outputs that fits the answers far better than the order of the labels, if there is one.

    labels, found: (n,), the true class of each image and the model's first. An order is made of one half of the images
    and measured on the other, so that it wins nothing by chance. It is far better if it makes twice as much right or
    half as much wrong, as a mean over the classes, which one answer to everything cannot.
    """
    if len(np.unique(labels)) < 2:  # of one class, one answer to everything looks like another order
        return None
    half = np.empty(len(labels), np.int64)
    half[np.argsort(labels, kind="stable")] = np.arange(len(labels)) % 2  # both have images of each class
    orders = [_match_classes(labels[half == side], found[half == side], classes) for side in (1, 0)]
    right, other = found == labels, found == np.where(half == 0, orders[0][labels], orders[1][labels])
    won, lost = int((other & ~right).sum()), int((right & ~other).sum())
    if won - lost <= CERTAIN * math.sqrt(won + lost):
        return None
    taken, better = (_average_classes(hits, labels) for hits in (right, other))
    outputs = _match_classes(labels, found, classes)
    far = better >= 2 * taken or 1 - better <= (1 - taken) / 2
    if not far or _count_owners(labels, found, outputs) < OF_THEIR_OWN * len(np.unique(labels)):
        return None
    return ClassOrder(tuple(map(int, outputs)), float(other.mean()), float(right.mean()))


def _match_classes(labels: Ints, found: Ints, classes: int) -> Ints:
    """(classes,), an output for each class, the most frequent pairs first; without images the class's own, if free.

    Where most classes have an output of their own, which is all that counts here, no other order fits better.
    """
    pairs, counts = np.unique(labels * classes + found, return_counts=True)
    rows, columns = pairs // classes, pairs % classes
    outputs, free = np.full(classes, -1, np.int64), np.ones(classes, np.bool_)
    for at in np.lexsort((rows != columns, -counts)):
        if outputs[rows[at]] < 0 and free[columns[at]]:
            outputs[rows[at]], free[columns[at]] = columns[at], False
    own = np.flatnonzero((outputs < 0) & free)
    outputs[own], free[own] = own, False
    outputs[outputs < 0] = np.flatnonzero(free)
    return outputs


def _average_classes(hits: npt.NDArray[Any], labels: Ints) -> float:
    """The mean over the classes of the share of their images that are right."""
    _, at = np.unique(labels, return_inverse=True)
    return float((np.bincount(at, hits) / np.bincount(at)).mean())


def _count_owners(labels: Ints, found: Ints, outputs: Ints) -> int:
    """How many classes get their output of `outputs` more often than any other."""
    of = (np.bincount(found[labels == label], minlength=len(outputs)) for label in np.unique(labels))
    owned = zip(np.unique(labels), of, strict=True)
    return sum(int(counts[outputs[label]] == counts.max()) for label, counts in owned)
