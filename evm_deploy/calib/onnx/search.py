"""Which parts of a network to turn to integers: what each loses and wins alone is measured, then whole mixes."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evm_deploy.calib.onnx.layers import Layer
from evm_deploy.calib.onnx.speed import compare_speed
from evm_deploy.data.samples import Samples
from evm_deploy.errors import CheckFailed, InputError
from evm_deploy.files import read_file, write_file
from evm_deploy.runtimes.onnxruntime import OnnxRunner
from evm_deploy.scan import native

CACHE_BYTES = 1 << 26  # that are read
Scores = npt.NDArray[np.float32]  # (images, classes)
Write = Callable[[Sequence[str]], bytes]  # the names of layers -> the graph with these on integers


@dataclass(frozen=True)
class Mix:
    """A network with these parts on integers, as measured."""

    parts: tuple[str, ...]
    drop: float  # points of top-1 lost against the float model; without labels, points of disagreement with it
    divergence: float  # mean relative entropy of its classes against the float model's, in nats
    ratio: float  # its latency over that of the float model


@dataclass(frozen=True)
class Search:
    """What was measured: each part alone, then the mixes that were tried, and the one that was taken."""

    alone: tuple[Mix, ...]
    mixes: tuple[Mix, ...]
    best: Mix
    max_drop: float
    images: int
    labelled: bool

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def notes(self) -> list[str]:
        """What a person should read of it."""
        what = "of top-1" if self.labelled else "of agreement with the float model"
        best = self.best
        lines = [
            f"search: {len(best.parts)} of {len(self.alone)} parts on integers, {best.drop:.2f} points {what} lost on "
            f"{self.images} images, {best.ratio:.2f} of the float latency"
        ]
        if best.ratio >= 1:
            lines.append("int8 is not faster than float here: ship the float bundle on machines like this one")
        return lines


def parts_of(layers: Iterable[Layer], by: str) -> dict[str, list[str]]:
    """The names of the layers of each part, in order: a part is a block of the network, or a layer."""
    parts: dict[str, list[str]] = {}
    for layer in layers:
        parts.setdefault(layer.block if by == "block" else layer.name, []).append(layer.name)
    return parts


def search(
    parts: dict[str, list[str]],
    write: Write,
    samples: Samples,
    max_drop: float,
    *,
    cache: Path | None,
    progress: Callable[[str], None],
) -> Search:
    """Measures every part alone, then takes parts back from the network with all of them, the one that loses most for
    what it wins first, until no more than `max_drop` points are lost; and of all that
    was measured takes the fastest.

    What was measured is kept in `cache`, a file, so that a killed search goes on. Raises InputError: no images.
    """
    gauge = _Gauge(parts, write, samples, cache)
    alone = []
    for i, part in enumerate(parts):
        progress(f"measuring {part} alone ({i + 1} of {len(parts)})")
        alone.append(gauge.measure([part]))
    progress("measuring mixes")
    left = list(parts)
    mixes = [gauge.measure(left)]
    for mix in sorted(alone, key=_regret, reverse=True)[:-1]:
        if mixes[-1].drop <= max_drop:
            break
        left = [part for part in left if part not in mix.parts]
        mixes.append(gauge.measure(left))
    winners = [mix.parts[0] for mix in alone if mix.ratio < 1 and mix.parts[0] in left]
    if 0 < len(winners) < len(left):
        mixes.append(gauge.measure(winners))
    good = [mix for mix in (*mixes, *alone) if mix.drop <= max_drop]
    if not good:
        raise CheckFailed(
            f"no part of the network can be on integers within {max_drop} points.",
            "allow more with --max-drop, calibrate on more images, or ship the float bundle.",
        )
    best = min(good, key=lambda mix: mix.ratio)
    return Search(tuple(alone), tuple(mixes), best, max_drop, len(gauge.scores), gauge.labels is not None)


def _regret(mix: Mix) -> float:
    """How much a part loses for what it wins; one that wins nothing comes before all others."""
    return mix.divergence / max(1 - mix.ratio, 1e-3)


class _Gauge:
    """Measures mixes against the float model, and remembers."""

    def __init__(self, parts: dict[str, list[str]], write: Write, samples: Samples, cache: Path | None) -> None:
        self._parts, self._write, self._samples, self._cache = parts, write, samples, cache
        float_graph = write([])
        self._float = _open(float_graph)
        self.scores, labels, self._image = _run(self._float, samples)
        self.labels = None if (labels < 0).any() else labels
        self._right = self.scores.argmax(1) if self.labels is None else self.labels
        everything = write([name for names in parts.values() for name in names])
        key = hashlib.sha256(float_graph + everything + self.scores.tobytes() + self._right.tobytes())
        self._key = key.hexdigest()
        self._known = _read(cache, self._key)

    def measure(self, parts: Sequence[str]) -> Mix:
        name = "\n".join(parts)
        if name not in self._known:
            runner = _open(self._write([layer for part in parts for layer in self._parts[part]]))
            scores, _, _ = _run(runner, self._samples)
            right = (self.scores.argmax(1) == self._right).mean() - (scores.argmax(1) == self._right).mean()
            speed = compare_speed(self._float, runner, self._image)
            runner.close()
            self._known[name] = [100 * float(right), _divergence(self.scores, scores), speed.ratio]
            if self._cache is not None:
                write_file(self._cache, json.dumps({"key": self._key, "measured": self._known}), "--cache")
        return Mix(tuple(parts), *self._known[name])


def _open(graph: bytes) -> OnnxRunner:
    return OnnxRunner(graph, library=native.available(), threads=1)


def _run(runner: OnnxRunner, samples: Samples) -> tuple[Scores, npt.NDArray[np.int64], npt.NDArray[Any]]:
    """The scores (n, classes) and labels (n,) of every sample, -1 where there is none; and one input."""
    scores, labels, image = [], [], None
    for sample in samples:
        image = sample.input
        scores.append(runner.run(image)[0][0])
        labels.append(-1 if sample.label is None else sample.label)
    if image is None:
        raise InputError("there are no images to search on.", "give a folder with images.")
    return np.stack(scores), np.array(labels, np.int64), image


def _divergence(expected: Scores, found: Scores) -> float:
    """Mean over the images of the relative entropy of the classes as found against those expected, in nats."""
    p, q = _logarithms(expected), _logarithms(found)
    return float((np.exp(p) * (p - q)).sum(1).mean())


def _logarithms(scores: Scores) -> npt.NDArray[np.float64]:
    """Of the probabilities of the classes, which the scores are already, or are the logits of."""
    exact = scores.astype(np.float64)
    if (exact >= 0).all() and np.allclose(exact.sum(1), 1, atol=1e-3):
        return np.asarray(np.log(np.maximum(exact, np.finfo(np.float32).tiny)))
    shifted = exact - exact.max(1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))


def _read(cache: Path | None, key: str) -> dict[str, list[float]]:
    """What an earlier search measured of the same mixes."""
    try:
        found = json.loads(read_file(cache, CACHE_BYTES, OSError)) if cache is not None else {}
        measured = found["measured"] if found.get("key") == key else {}
        return {str(name): [float(number) for number in numbers] for name, numbers in measured.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}  # none, or another program's
