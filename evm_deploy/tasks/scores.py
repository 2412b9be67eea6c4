"""What the scores of classes say, in numbers. Scores are logits or probabilities (n, classes), a row an image."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]


def find_best(scores: Array, count: int) -> Ints:
    """The `count` best classes of each row, best first; of equal scores the lower class. scores: (n, classes)."""
    return np.argsort(-scores, axis=-1, kind="stable")[:, :count].astype(np.int64)


def find_probabilities(logits: Array) -> npt.NDArray[np.float64]:
    """The probabilities of the classes, (n, classes), of logits of that shape."""
    exact = logits.astype(np.float64)
    powers = np.exp(exact - exact.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


def centre_logits(probabilities: Array) -> Array:
    """The logits that probabilities were made of, moved so that the mean of each row is 0."""
    logs = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))  # what float32 cannot hold is 0
    centred: Array = logs - logs.mean(-1, keepdims=True)
    return centred


def has_tie(scores: Array, tolerance: float) -> bool:
    """Whether some row's two best scores are closer than twice the tolerance."""
    best = np.sort(scores, -1)[..., -2:]
    if best.shape[-1] < 2:
        return False
    return bool((best[..., 1] - best[..., 0] <= 2 * tolerance * max(1.0, float(np.abs(scores).max()))).any())


def measure_divergence(expected: Array, found: Array) -> float:
    """Mean over the images of the relative entropy of the classes as found against those expected, in nats."""
    p, q = _find_logarithms(expected), _find_logarithms(found)
    return float((np.exp(p) * (p - q)).sum(1).mean())


def _find_logarithms(scores: Array) -> npt.NDArray[np.float64]:
    """Of the probabilities of the classes, which the scores are already, or are the logits of."""
    exact = scores.astype(np.float64)
    if (exact >= 0).all() and np.allclose(exact.sum(1), 1, atol=1e-3):
        return np.asarray(np.log(np.maximum(exact, np.finfo(np.float32).tiny)))
    shifted = exact - exact.max(1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))
