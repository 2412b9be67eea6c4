"""Searches for the parts of a network to quantise: measures each part alone, then mixes of several parts."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evm_deploy.calib.onnx.layers import Layer
from evm_deploy.calib.onnx.losses import watch_float
from evm_deploy.calib.onnx.speed import compare_speed
from evm_deploy.data.samples import Samples
from evm_deploy.errors import CheckFailed
from evm_deploy.files import read_file, write_file
from evm_deploy.runtimes.onnxruntime import OnnxRunner
from evm_deploy.scan import native
from evm_deploy.tasks import Task

CACHE_BYTES = 1 << 24  # largest cache that is read
Write = Callable[[Sequence[str]], bytes]  # the names of layers -> the graph with these on integers


@dataclass(frozen=True)
class Mix:
    """Measurements of the network with these parts on integers."""

    parts: tuple[str, ...]
    drop: float  # points of the score lost against the float model; without labels, points of disagreement with it
    divergence: float  # from the float model, without regard to labels; of classes the mean relative entropy, in nats;
    # of what is found the share that its own findings count less for
    ratio: float  # its latency over that of the float model


@dataclass(frozen=True)
class Search:
    """The measurements: each part alone, the mixes that were tried, and the one that was chosen."""

    alone: tuple[Mix, ...]
    mixes: tuple[Mix, ...]
    best: Mix
    max_drop: float
    images: int
    labelled: bool
    score: str  # the score that `drop` is measured in
    remarks: tuple[str, ...] = ()  # on the order of the classes

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def make_notes(self) -> list[str]:
        """The result in sentences. Its time is not among them: that of the finished bundle is measured once more."""
        what = f"of {self.score}" if self.labelled else "of agreement with the float model"
        best = self.best
        return [
            f"search: {len(best.parts)} of {len(self.alone)} parts on integers, {best.drop:.2f} points {what} lost on "
            f"{self.images} images",
            *self.remarks,
        ]


def group_layers(layers: Iterable[Layer], by: str) -> dict[str, list[str]]:
    """Groups the names of layers into parts, in order: a part is a block of the network, or a single layer."""
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
    task: Task,
    cache: Path | None,
    progress: Callable[[str], None],
) -> Search:
    """Finds the fastest mix of parts on integers that loses at most `max_drop` points of the task's score.

    Every part is measured alone. Then, beginning with all parts on integers, parts become float again until the loss
    is small enough: first the part that loses most for the time that it saves. Measurements are kept in `cache`, a
    file, so that a killed search can continue. Raises InputError: no images; CheckFailed: no mix loses so little.
    """
    gauge = _Gauge(parts, write, samples, task, cache)
    alone = []
    for i, part in enumerate(parts):
        progress(f"measuring {part} alone ({i + 1} of {len(parts)})")
        alone.append(gauge.measure([part]))
    progress("measuring mixes")
    left = list(parts)
    mixes = [gauge.measure(left)]
    for mix in sorted(alone, key=_compute_regret, reverse=True)[:-1]:
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
    loss = gauge.loss
    remarks = loss.describe_order() if loss.labelled else ()
    return Search(tuple(alone), tuple(mixes), best, max_drop, loss.images, loss.labelled, loss.score, remarks)


def _compute_regret(mix: Mix) -> float:
    """The loss of a part relative to the time that it saves; the largest for a part that saves none."""
    return mix.divergence / max(1 - mix.ratio, 1e-3)


class _Gauge:
    """Measures mixes against the float model, and remembers the results."""

    def __init__(
        self, parts: dict[str, list[str]], write: Write, samples: Samples, task: Task, cache: Path | None
    ) -> None:
        self._parts, self._write, self._cache = parts, write, cache
        float_graph = write([])
        self._float = _open_runner(float_graph)
        self.loss = watch_float(task, samples, self._float.run)
        self._image = next(sample.input for sample in samples)
        everything = write([name for names in parts.values() for name in names])
        self._key = hashlib.sha256(float_graph + everything + self.loss.content).hexdigest()
        self._known = _read_cache(cache, self._key)

    def measure(self, parts: Sequence[str]) -> Mix:
        name = "\n".join(parts)
        if name not in self._known:
            runner = _open_runner(self._write([layer for part in parts for layer in self._parts[part]]))
            measured = self.loss.measure(runner.run)
            speed = compare_speed(self._float, runner, self._image)
            runner.close()
            self._known[name] = [*measured, speed.ratio]
            if self._cache is not None:
                write_file(self._cache, json.dumps({"key": self._key, "measured": self._known}), "--cache")
        return Mix(tuple(parts), *self._known[name])


def _open_runner(graph: bytes) -> OnnxRunner:
    return OnnxRunner(graph, library=native.available(), threads=1)


def _read_cache(cache: Path | None, key: str) -> dict[str, list[float]]:
    """Reads what an earlier search with the same key measured."""
    try:
        found = json.loads(read_file(cache, CACHE_BYTES, OSError)) if cache is not None else {}
        measured = found["measured"] if found.get("key") == key else {}
        return {str(name): [float(number) for number in numbers] for name, numbers in measured.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}  # there is no cache, or another program wrote it
