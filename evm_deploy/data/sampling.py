"""Chooses which images to read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def sample_by_class(labels: Sequence[int | None], count: int | None, seed: int) -> list[int]:
    """Chooses `count` positions, ascending: from each class its share, rounded down or up, at random."""
    total = len(labels)
    if count is None or count >= total:
        return list(range(total))
    rng = np.random.default_rng(seed)
    classes, inverse = np.unique([-1 if label is None else label for label in labels], return_inverse=True)
    # Takes every (total/count)-th position from a list of the classes in random order, each with shuffled members.
    row = np.lexsort((rng.random(total), rng.permutation(len(classes))[inverse]))
    picks = ((np.arange(count) + rng.random()) * total / count).astype(np.int64)
    return sorted(int(at) for at in row[np.minimum(picks, total - 1)])
