"""The names of the classes that mmengine and mmcv record."""

from __future__ import annotations

from typing import Any

from evm_deploy.models.recorded.statement import as_mapping

MOST_TEXT = 200  # characters of a name


def read_classes(content: Any, count: int) -> tuple[tuple[str, ...] | None, str | None]:
    """The names of a network's `count` classes, if the file has as many; else None, and why they are not taken.

    One text, in the place of a list, is the name of one class.
    """
    meta = as_mapping(as_mapping(content).get("meta"))
    data = as_mapping(meta.get("dataset_meta"))
    said = next((each for each in (data.get("classes"), data.get("CLASSES"), meta.get("CLASSES")) if each), None)
    if said is None:
        return None, None
    names = [said] if isinstance(said, str) else list(said) if isinstance(said, (list, tuple)) else []
    if len(names) != count:
        return None, f"the file names {len(names)} classes, and the network has {count}: the names are not taken"
    if not all(isinstance(name, str) and name.strip() and name.isprintable() for name in names):
        return None, "the file's names of classes are no texts of a line each: they are not taken"
    return tuple(name.strip()[:MOST_TEXT] for name in names), None
