"""Maps the classes in the data to indices in the model's output."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from evm_deploy.errors import InputError

Found = Mapping[str | int, int]
MAX_INDEX = 1 << 20
SHOWN = 5


def match_classes(found: Sequence[str | int], labels: Sequence[str] | None, folders: Sequence[str] | None) -> Found:
    """Finds the index of each class in the data (`found`, without repetition).

    A class is one of the model's `labels`, or an index in digits. Without labels, texts are numbered in the order of
    their names, and `folders` are all names in that order. Raises InputError: a class that is not in the labels or is
    there twice, an index that the model does not have, or a folder without images in the order.
    """
    texts = [name for name in found if isinstance(name, str)]
    numbers = {name: name for name in found if not isinstance(name, str)}
    for number in numbers:
        _check_index(number, labels)
    if labels is not None and _are_labels(texts, labels):
        return numbers | {text: _find_by_text(text, labels) for text in texts}
    if all(map(_is_number, texts)):
        return numbers | {text: _check_index(int(text), labels) for text in texts}
    if labels is not None:
        return numbers | {text: _find_by_text(text, labels) for text in texts}  # raises, and names the nearest label
    if numbers:
        raise InputError(f"some classes are numbers and some are texts, such as {texts[0]!r}.", "use only numbers.")
    return _number_in_order(texts, folders)


def order_classes(found: Found, labels: Sequence[str] | None) -> tuple[str, ...] | None:
    """The names of the classes by index: the model's labels, or those of the data if all are there."""
    if labels is not None:
        return tuple(labels)
    names = {index: name for name, index in found.items() if isinstance(name, str) and not name.isdigit()}
    return tuple(names[i] for i in range(len(names))) if names and sorted(names) == list(range(len(names))) else None


def describe_assumed_order(found: Found, labels: Sequence[str] | None, folders: Sequence[str] | None) -> str | None:
    """Which order of the classes `match_classes` had to assume, for people; None: the data or the labels say it."""
    texts = sorted(name for name in found if isinstance(name, str))
    if labels is None and any(not _is_number(text) for text in texts):
        return describe_taken_order(texts, "name")
    by_label = labels is not None and _are_labels(texts, labels)
    numbered = folders is not None and not by_label and all(map(_is_number, texts))
    if numbered and [found[text] for text in texts] != list(range(len(texts))):
        return (
            "the folders' numbers were taken for those of the outputs; the order of their names, in which many "
            f"programs read folders, would be {_list_some(texts)}"
        )
    return None


def describe_taken_order(names: Sequence[str], by: str) -> str:
    """That a model without labels was taken to have classes in this order, for people."""
    return f"the model has no labels: its outputs were taken for the classes by {by}, {_list_some(names)}"


def _are_labels(texts: Sequence[str], labels: Sequence[str]) -> bool:
    return any(text in labels or _normalise(text) in map(_normalise, labels) for text in texts)


def _list_some(names: Sequence[str]) -> str:
    said = [f"{index}: {name}" for index, name in enumerate(names)]
    return ", ".join(said if len(said) <= SHOWN else [*said[: SHOWN - 1], "...", said[-1]])


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _find_by_text(text: str, labels: Sequence[str]) -> int:
    for same in (str, _normalise):
        indices = [index for index, label in enumerate(labels) if same(label) == same(text)]
        if len(indices) == 1:
            return indices[0]
        if indices:
            raise InputError(
                f"class {text!r} is label {indices[0]} and label {indices[1]} of the model.",
                "name the classes of the data by their index instead.",
            )
    near = difflib.get_close_matches(_normalise(text), {_normalise(label): label for label in labels}, 1, cutoff=0.0)
    nearest = next((label for label in labels if near and _normalise(label) == near[0]), labels[0] if labels else "")
    raise InputError(
        f"class {text!r} of the data is not a label of the model.",
        f"did you mean {nearest!r}? Name every class by its label, or by its index.",
    )


def _number_in_order(texts: Sequence[str], folders: Sequence[str] | None) -> Found:
    names = sorted(folders if folders is not None else texts)
    for name in names:
        if name not in texts:
            raise InputError(
                f"the folder {name!r} has no images, so the order of the classes is not certain.",
                "delete it, or give the bundle labels.",
            )
    return {name: index for index, name in enumerate(names)}


def _check_index(index: int, labels: Sequence[str] | None) -> int:
    if not 0 <= index < (MAX_INDEX if labels is None else len(labels)):
        known = "" if labels is None else f", whose labels are 0 to {len(labels) - 1}"
        raise InputError(f"the data has class {index}; the model does not{known}.", "use the data of this model.")
    return index


def _normalise(text: str) -> str:
    return " ".join(text.replace("_", " ").casefold().split())
