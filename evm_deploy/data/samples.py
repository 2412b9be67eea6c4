"""Reads inputs for calibration and evaluation one at a time, from data of any kind."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy.typing as npt

from evm_deploy.data.annotations import Annotations
from evm_deploy.data.classes import describe_assumed_order, describe_taken_order, match_classes, order_classes
from evm_deploy.data.kinds import Data, list_annotated, open_data
from evm_deploy.data.listing import NO_IMAGES, count_tolerated
from evm_deploy.data.sampling import sample_by_class
from evm_deploy.data.sources import ImageEntry, ImageSource
from evm_deploy.errors import ImageError, InputError, OptionError
from evm_deploy.jsontext import utf8_name
from evm_deploy.manifest import Preprocessing
from evm_deploy.preprocessing import preprocess
from evm_deploy.tasks.truth import Truth

__all__ = ["Data", "LabelledInput", "ReadEntry", "Samples", "describe_left_out", "read_samples"]

NAMED = 20  # how many of the unused files a record names
TOLD = 3  # how many a note names


@dataclass(frozen=True)
class LabelledInput:
    """One input, preprocessed for the bundle."""

    name: str  # its path relative to the data's folder, or "item 17"
    label: int | None  # index of the class, if the data has classes
    size: tuple[int, int]  # (h, w) of the image
    truth: Truth | None  # what is in it, if the data is annotated
    input: npt.NDArray[Any]  # (1, 3, h, w) float32, or (1, h, w, 3) uint8 where preprocessing is baked


class ReadEntry(NamedTuple):
    """The record of one entry that was read."""

    digest: bytes
    skipped: str | None  # the reason why it could not be used


class Samples:
    """The entries of some data, decoded on demand. Made by `read_samples`. Can be pickled."""

    def __init__(
        self,
        source: ImageSource,
        entries: Mapping[int, ImageEntry],
        preprocessing: Preprocessing,
        classes: tuple[str, ...] | None = None,
        *,
        seed: int = 0,
        ignored: Sequence[str] = (),
        assumed_order: str | None = None,
        annotations: Annotations | None = None,
    ) -> None:
        self.classes = classes  # names by class index, if known
        self.assumed_order = assumed_order  # which order of the classes was taken where nothing says it, for people
        self.preprocessing = preprocessing
        self.limit = count_tolerated(len(entries))  # number of corrupt images that is accepted
        self._source, self._seed, self._ignored = source, seed, tuple(ignored)
        self._annotations = annotations
        self._entries = dict(entries)  # by position in the whole data, which a shard keeps
        self._positions = tuple(self._entries)
        self._seen: dict[int, ReadEntry] = {}

    def __len__(self) -> int:
        """The number of entries, including corrupt ones."""
        return len(self._positions)

    def __iter__(self) -> Iterator[LabelledInput]:
        """Yields the samples that can be decoded, in order. Raises InputError as `load` does."""
        return (sample for index in range(len(self)) if (sample := self.load(index)) is not None)

    @property
    def labels(self) -> tuple[int | None, ...]:
        """The class index of every entry."""
        return tuple(entry.label if isinstance(entry.label, int) else None for entry in self._entries.values())

    @property
    def names(self) -> tuple[str, ...]:
        """The name of every entry."""
        return tuple(utf8_name(entry.name) for entry in self._entries.values())

    def load(self, index: int) -> LabelledInput | None:
        """Loads the sample at `index`; None: it is corrupt, which is recorded.

        Raises InputError: more are corrupt than one in ten, but at least one, and never all.
        """
        position = self._positions[index]
        entry = self._entries[position]
        try:
            image = self._source.read_pixels(entry.key)
            pixels = preprocess(image, self.preprocessing)
        except ImageError as error:
            self._seen[position] = ReadEntry(self._source.digest(entry.key), error.cause)
            self._check_limit()
            return None
        self._seen[position] = ReadEntry(self._source.digest(entry.key), None)
        size, label = image.shape[:2], entry.label if isinstance(entry.label, int) else None
        truth = None if self._annotations is None else self._annotations.read(entry.name, size)
        return LabelledInput(entry.name, label, size, truth, pixels)

    def get_seen(self) -> dict[int, ReadEntry]:
        """The entries read so far, by position in the whole data. Workers return this, and caches store it."""
        return dict(self._seen)

    def add(self, seen: Mapping[int, ReadEntry]) -> None:
        """Adds entries that another reader of the same data has read. Raises InputError: too many are corrupt."""
        self._seen.update((position, ReadEntry(*each)) for position, each in seen.items())
        self._check_limit()

    def is_unchanged(self, seen: Mapping[int, ReadEntry]) -> bool:
        """Whether `seen` was read from these entries and the data is unchanged, by hashing it again."""
        entries = self._entries
        return all(at in entries and self._source.digest(entries[at].key) == seen[at][0] for at in seen)

    def record(self) -> dict[str, Any]:
        """The record of the data read so far, for a manifest. `sha256` covers names, classes and contents, in order."""
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
            **({} if self._annotations is None else {"annotations": self._annotations.sha256}),
        }

    def shard(self, index: int, of: int) -> Samples:
        """Every `of`-th entry from `index` on, for one of `of` workers. It accepts as many corrupt ones as all."""
        if not 0 <= index < of:
            raise OptionError(f"there is no shard {index} of {of}.", "count from 0.")
        entries = {position: self._entries[position] for position in self._positions[index::of]}
        source = self._source.select([entry.key for entry in entries.values()])
        return self._copy(source, entries, self.preprocessing)

    def prepare_for(self, preprocessing: Preprocessing) -> Samples:
        """The same entries for another bundle, without listing the data again. No entry counts as read yet."""
        return self._copy(self._source, self._entries, preprocessing)

    def _copy(self, source: ImageSource, entries: Mapping[int, ImageEntry], preprocessing: Preprocessing) -> Samples:
        seed, ignored, said = self._seed, self._ignored, self._annotations
        other = Samples(source, entries, preprocessing, self.classes, seed=seed, ignored=ignored, annotations=said)
        other.limit = self.limit
        return other

    def _check_limit(self) -> None:
        skipped = [(position, each.skipped) for position, each in self._seen.items() if each.skipped]
        if len(skipped) > self.limit:
            rule = f"{self.limit} may be left out: one in ten, but at least one, and never all"
            what = f"{len(skipped)} of {len(self)} images cannot be used ({rule})"
            raise InputError(
                f"{what}; the reason for the last: {skipped[-1][1]}", "repair or remove them, or use other data."
            )


def read_samples(
    data: Data,
    preprocessing: Preprocessing,
    *,
    count: int | None = None,
    seed: int = 0,
    labels: Sequence[str] | None = None,
    need_labels: bool = False,
    annotations: Annotations | None = None,
) -> Samples:
    """Lists the images of `data`: a path, the text "random:32", or arrays.

    A path is an image folder, a folder of class folders, a list file (.txt, .csv, .tsv, with `path class` on each
    line), an .npz with `images`, uint8 (n, H, W, 3), and optionally `labels`, or one image. Arrays are uint8 (H, W, 3),
    alone or in a pair with their class (an index or a label). A sequence is read one item at a time, a generator all
    at once.

    Args:
        count: number of images, sampled with `seed`, each class by its share; None, or more than there are: all.
        labels: the model's labels, with which classes are matched.
        need_labels: whether data without classes is an InputError.
        annotations: what is in the images of a folder; those that are not annotated are not read.

    Raises InputError: the data does not exist, has no images, or is of an unknown kind; a class is not in `labels`.
    """
    if count is not None and count < 1:
        raise OptionError(f"{count} samples are not enough.", "ask for at least one, or leave it out.")
    if seed < 0:
        raise OptionError(f"the seed {seed} is negative.", "give 0 or more.")
    if annotations is not None:
        annotations = annotations.number_classes(labels)
    listing = open_data(data, preprocessing, seed) if annotations is None else list_annotated(data, annotations)
    if not listing.entries:
        raise InputError("the data has no images.", NO_IMAGES)
    raw = [entry.label for entry in listing.entries]
    classes: tuple[str, ...] | None = None
    indices: Mapping[str | int, int] = {}
    assumed = None
    if None not in raw:
        indices = match_classes(
            list(dict.fromkeys(label for label in raw if label is not None)), labels, listing.folders
        )
        classes = order_classes(indices, labels)
        assumed = describe_assumed_order(indices, labels, listing.folders)
    elif need_labels:
        fix = "use a folder with only class folders, a list of `path class` lines, or an .npz with labels."
        raise InputError("the data does not give the class of each image.", fix)
    resolved = [None if label is None else indices.get(label) for label in raw]
    chosen = sample_by_class(resolved, count, seed)
    entries = {at: listing.entries[at]._replace(label=resolved[at]) for at in chosen}
    if annotations is not None:
        classes = annotations.classes
        assumed = describe_taken_order(classes, "number") if classes is not None else None
    return Samples(
        listing.source,
        entries,
        preprocessing,
        classes,
        seed=seed,
        ignored=listing.ignored,
        assumed_order=assumed,
        annotations=annotations,
    )


def describe_left_out(record: Mapping[str, Any]) -> list[str]:
    """Describes the unused files in a record of data, and names the first of them."""
    reasons = {"skipped": "could not be read", "ignored": "were ignored (no images, or above the class folders)"}
    counts = {what: record[f"{what}_count"] for what in reasons}
    return [f"{n} files {reasons[what]}: {', '.join(record[what][:TOLD])}" for what, n in counts.items() if n]
