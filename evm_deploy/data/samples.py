"""The inputs that calibration and evaluation read, from data of every kind, one at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy.typing as npt

from evm_deploy.data.classes import match_classes, order_of
from evm_deploy.data.kinds import Data, open_data
from evm_deploy.data.listing import NO_IMAGES
from evm_deploy.data.sampling import stratified
from evm_deploy.data.sources import Entry, Source
from evm_deploy.errors import ImageError, InputError, OptionError
from evm_deploy.images import preprocess
from evm_deploy.jsontext import utf8_name
from evm_deploy.manifest import Preprocessing

__all__ = ["Data", "Sample", "Samples", "Seen", "left_out", "read_samples"]

SKIPPED_SHARE = 10  # one in ten may be corrupt
NAMED = 20  # of the files that were left out, how many a record names
TOLD = 3  # and a note


@dataclass(frozen=True)
class Sample:
    """One input, preprocessed as the bundle says."""

    name: str  # relative to the data's folder, or "item 17"
    label: int | None  # index of the class, where the data knows classes
    input: npt.NDArray[Any]  # (1, 3, h, w) float32, or (1, h, w, 3) uint8 where preprocessing is baked


class Seen(NamedTuple):
    """What was read of one entry."""

    digest: bytes
    skipped: str | None  # why it could not be used


class Samples:
    """The entries of some data: known at once, decoded when asked for. Made by `read_samples`. Can be pickled."""

    def __init__(
        self,
        source: Source,
        entries: Mapping[int, Entry],
        preprocessing: Preprocessing,
        classes: tuple[str, ...] | None = None,
        *,
        seed: int = 0,
        ignored: Sequence[str] = (),
    ) -> None:
        self.classes = classes  # names in the order of the class index, where known
        self.preprocessing = preprocessing
        self.limit = min(max(1, len(entries) // SKIPPED_SHARE), len(entries) - 1)  # corrupt ones that are let pass
        self._source, self._seed, self._ignored = source, seed, tuple(ignored)
        self._entries = dict(entries)  # by their position in the whole, which a shard keeps
        self._positions = tuple(self._entries)
        self._seen: dict[int, Seen] = {}

    def __len__(self) -> int:
        """How many there are, corrupt ones included."""
        return len(self._positions)

    def __iter__(self) -> Iterator[Sample]:
        """Those that can be decoded, in order. Raises InputError as `load` does."""
        return (sample for index in range(len(self)) if (sample := self.load(index)) is not None)

    @property
    def labels(self) -> tuple[int | None, ...]:
        """The class index of every entry."""
        return tuple(entry.label if isinstance(entry.label, int) else None for entry in self._entries.values())

    @property
    def names(self) -> tuple[str, ...]:
        """What every entry is called."""
        return tuple(utf8_name(entry.name) for entry in self._entries.values())

    def load(self, index: int) -> Sample | None:
        """The sample at `index`; None where it is corrupt, which is recorded.

        Raises InputError when more than a tenth (one at least, but never all) of the entries are corrupt.
        """
        position = self._positions[index]
        entry = self._entries[position]
        try:
            pixels = preprocess(self._source.pixels(entry.key), self.preprocessing)
        except ImageError as error:
            self._seen[position] = Seen(self._source.digest(entry.key), error.cause)
            self._check_limit()
            return None
        self._seen[position] = Seen(self._source.digest(entry.key), None)
        return Sample(entry.name, entry.label if isinstance(entry.label, int) else None, pixels)

    def seen(self) -> dict[int, Seen]:
        """What was read so far, by position in the whole: what a worker gives back, and a cache keeps."""
        return dict(self._seen)

    def add(self, seen: Mapping[int, Seen]) -> None:
        """Counts what another reader of the same data read. Raises InputError over the limit of corrupt ones."""
        self._seen.update((position, Seen(*each)) for position, each in seen.items())
        self._check_limit()

    def unchanged(self, seen: Mapping[int, Seen]) -> bool:
        """Whether these were read from the entries here, and the data is still the same: it is hashed again."""
        entries = self._entries
        return all(at in entries and self._source.digest(entries[at].key) == seen[at][0] for at in seen)

    def record(self) -> dict[str, Any]:
        """What was read so far, for a manifest; `sha256` is of names, classes and contents, in the data's order."""
        seen = sorted(item for item in self._seen.items() if item[0] in self._entries)
        skipped = [utf8_name(self._entries[position].name) for position, each in seen if each.skipped]
        total = hashlib.sha256()
        for position, each in seen:
            if not each.skipped:
                entry = self._entries[position]
                total.update(
                    hashlib.sha256(f"{utf8_name(entry.name)}\0{entry.label}\0".encode() + each.digest).digest()
                )
        return {
            "kind": self._source.kind,
            "count": len(seen) - len(skipped),
            "seed": self._seed,
            "sha256": total.hexdigest(),
            "skipped": skipped[:NAMED],
            "skipped_count": len(skipped),
            "ignored": [utf8_name(name) for name in self._ignored[:NAMED]],
            "ignored_count": len(self._ignored),
        }

    def shard(self, index: int, of: int) -> Samples:
        """Every `of`-th entry from `index` on, for one of `of` workers; it lets pass as many corrupt ones as all."""
        if not 0 <= index < of:
            raise OptionError(f"there is no shard {index} of {of}.", "count from 0.")
        entries = {position: self._entries[position] for position in self._positions[index::of]}
        source = self._source.part([entry.key for entry in entries.values()])
        part = Samples(source, entries, self.preprocessing, self.classes, seed=self._seed, ignored=self._ignored)
        part.limit = self.limit
        return part

    def prepared(self, preprocessing: Preprocessing) -> Samples:
        """The same entries for another bundle: the data is listed, and a generator read, once. Nothing is seen yet."""
        seed, ignored = self._seed, self._ignored
        other = Samples(self._source, self._entries, preprocessing, self.classes, seed=seed, ignored=ignored)
        other.limit = self.limit
        return other

    def _check_limit(self) -> None:
        skipped = [(position, each.skipped) for position, each in self._seen.items() if each.skipped]
        if len(skipped) > self.limit:
            what = f"{len(skipped)} of {len(self)} images cannot be used"
            raise InputError(f"{what}, the last because {skipped[-1][1]}", "repair or remove them, or use other data.")


def read_samples(
    data: Data,
    preprocessing: Preprocessing,
    *,
    count: int | None = None,
    seed: int = 0,
    labels: Sequence[str] | None = None,
    need_labels: bool = False,
) -> Samples:
    """Lists the images of `data`: a path, the text "random:32", or arrays.

    A path is an image folder, a folder of class folders, a list file (.txt, .csv, .tsv: `path class`, a line each), an
    .npz with `images`, uint8 (n, H, W, 3), and perhaps `labels`, or one image. Arrays are uint8 (H, W, 3), each alone
    or in a pair with its class (index, or label); a sequence is read an item at a time, a generator at once.

    Args:
        count: how many, sampled by `seed`, each class by its share; None: all. More than there are means all.
        labels: the model's, by which classes are matched.
        need_labels: data without classes is an InputError.

    Raises InputError: nothing there, no images, data of no kind that is read, a class that `labels` does not know.
    """
    if count is not None and count < 1:
        raise OptionError(f"{count} samples are none.", "ask for one at least, or leave it out.")
    if seed < 0:
        raise OptionError(f"the seed {seed} is negative.", "give 0 or more.")
    listing = open_data(data, preprocessing, seed)
    if not listing.entries:
        raise InputError("the data has no images.", NO_IMAGES)
    raw = [entry.label for entry in listing.entries]
    classes: tuple[str, ...] | None = None
    indices: Mapping[str | int, int] = {}
    if None not in raw:
        indices = match_classes(
            list(dict.fromkeys(label for label in raw if label is not None)), labels, listing.folders
        )
        classes = order_of(indices, labels)
    elif need_labels:
        fix = "use a folder of class folders alone, a list of `path class` lines, or an .npz with labels."
        raise InputError("the data does not say the class of each image.", fix)
    resolved = [None if label is None else indices.get(label) for label in raw]
    chosen = stratified(resolved, count, seed)
    entries = {at: listing.entries[at]._replace(label=resolved[at]) for at in chosen}
    return Samples(listing.source, entries, preprocessing, classes, seed=seed, ignored=listing.ignored)


def left_out(record: Mapping[str, Any]) -> list[str]:
    """What a person should know of a record of data: the files that were not used, the first by name."""
    reasons = {"skipped": "could not be read", "ignored": "are no images and were passed over"}
    counts = {what: record[f"{what}_count"] for what in reasons}
    return [f"{n} files {reasons[what]}: {', '.join(record[what][:TOLD])}" for what, n in counts.items() if n]
