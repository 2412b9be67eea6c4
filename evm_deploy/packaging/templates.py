"""Templates of source files: `@NAME@` is replaced with the package's value for NAME."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from evm_deploy.tasks import matching
from evm_deploy.tasks.semantic_segmentation import MOST_DIFFERING

ROOT = Path(__file__).parent / "templates"

_LIMITS = ("SAME_BOX", "SAME_THING", "COARSE", "MOST_MISSED", "MOST_MISSED_AT_ALL")
# By which loaders compare what was found with a golden pair.
GOLDEN_LIMITS = {name: repr(getattr(matching, name)) for name in _LIMITS} | {"MOST_DIFFERING": repr(MOST_DIFFERING)}

_PLACE = re.compile(r"@([A-Z][A-Z0-9_]*)@")


def fill(name: str, folder: Path, values: Mapping[str, str], moved: Mapping[str, str] | None = None) -> None:
    """Writes every file of the template `name` into `folder`, with `values` filled in.

    moved: a prefix of file names in the template, and the prefix that replaces it in `folder`.
    """
    root = ROOT / name
    for source in sorted(root.rglob("*")):
        if source.is_file():
            target = folder / _move_name(source.relative_to(root).as_posix(), moved or {})
            target.parent.mkdir(parents=True, exist_ok=True)
            text = _PLACE.sub(lambda place: values[place.group(1)], source.read_text(encoding="utf-8"))
            target.write_text(text, encoding="utf-8", newline="\n")


def _move_name(name: str, moved: Mapping[str, str]) -> str:
    for start, other in moved.items():
        if name.startswith(start):
            return other + name.removeprefix(start)
    return name
