"""Which of many images are read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def stratified(labels: Sequence[int | None], count: int | None, seed: int) -> list[int]:
    """`count` positions, ascending: of each class its share, rounded down or up, at random within it."""
    total = len(labels)
    if count is None or count >= total:
        return list(range(total))
    rng = np.random.default_rng(seed)
    classes, inverse = np.unique([-1 if label is None else label for label in labels], return_inverse=True)
    # Classes in random order, their members in random order within them; then every (total/count)-th of that row.
    row = np.lexsort((rng.random(total), rng.permutation(len(classes))[inverse]))
    picks = ((np.arange(count) + rng.random()) * total / count).astype(np.int64)
    return sorted(int(at) for at in row[np.minimum(picks, total - 1)])
