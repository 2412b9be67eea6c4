"""The calibration cache on disk: written atomically, and used only for the same model and data."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from evm_deploy.calib.statistics import HALF, TensorStatistics
from evm_deploy.data.samples import ReadEntry, Samples
from evm_deploy.files import read_file, write_file

MAGIC = b"evm-deploy calibration 1\n"
LARGEST = 1 << 28  # bytes after decompression: a thousand tensors take half of this

Statistics = dict[str, TensorStatistics]
# The errors that readers of JSON and archives raise for damaged files.
DAMAGE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    EOFError,
    RecursionError,
    zlib.error,
    zipfile.BadZipFile,
    SyntaxError,
    tokenize.TokenError,
)


def compute_identity(key: str, channel_axes: Mapping[str, int], samples: Samples) -> str:
    """The hash of everything that the statistics depend on, except the images, which are hashed when they are read."""
    facts = [key, HALF, list(channel_axes.items()), samples.names, samples.labels, repr(samples.preprocessing)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def store_statistics(path: Path, identity: str, done: int, samples: Samples, statistics: Statistics) -> None:
    """Saves the state after `done` images at `path`. Raises OutputError; then the previous file is still there."""
    head = {
        "identity": identity,
        "done": done,
        "names": list(statistics),
        "seen": [[at, each.digest.hex(), each.skipped] for at, each in samples.get_seen().items()],
    }
    states = [each.to_state() for each in statistics.values()]
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {f"{i} {field}": array for i, state in enumerate(states) for field, array in state.items()}
    np.savez(buffer, **arrays)
    packed = zlib.compress(json.dumps(head).encode() + b"\n" + buffer.getvalue(), 1)
    content = MAGIC + hashlib.sha256(packed).digest() + packed
    write_file(path, content, "place for the cache", f"the calibration cache {path}")


def load_statistics(
    path: Path, identity: str, samples: Samples, progress: Callable[[str], None]
) -> tuple[int, Statistics] | None:
    """Loads the number of finished images and their statistics; returns None, and reports why, if they cannot be used.

    The images that were read before are recorded in `samples`.
    """
    if not path.exists():
        return None
    try:
        head, statistics = _read(path)
        done = int(head["done"])
        seen = {int(at): ReadEntry(bytes.fromhex(digest), skipped) for at, digest, skipped in head["seen"]}
        theirs, complete = head["identity"], len(seen) == done and list(statistics) == head["names"]
    except DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        progress(f"the calibration cache {path} cannot be read ({reason}): starting anew")
        return None
    if theirs != identity or not complete:
        progress(f"the calibration cache {path} is of another model or other data: starting anew")
        return None
    if not samples.is_unchanged(seen):
        progress(f"images have changed since the calibration cache {path} was written: starting anew")
        return None
    samples.add(seen)
    progress(f"continuing from the calibration cache: {done} of {len(samples)} images are done")
    return done, statistics


def _read(path: Path) -> tuple[Any, Statistics]:
    """Reads the head and the statistics. Raises ValueError or another of DAMAGE for any other file."""
    content = read_file(path, LARGEST, ValueError)
    if not content.startswith(MAGIC):
        raise ValueError("it is not one")
    digest, packed = content[len(MAGIC) :][:32], content[len(MAGIC) + 32 :]
    if hashlib.sha256(packed).digest() != digest:
        raise ValueError("it is damaged")
    text, arrays = zlib.decompressobj().decompress(packed, LARGEST).split(b"\n", 1)
    head = json.loads(text)
    with np.load(io.BytesIO(arrays), allow_pickle=False) as found:
        fields = [field.name for field in dataclasses.fields(TensorStatistics)]
        return head, {
            str(name): TensorStatistics.from_state({field: found[f"{i} {field}"] for field in fields})
            for i, name in enumerate(head["names"])
        }
