"""Puts the parts of a result, a folder and files beside it, in place of what had their names: all of them or none.

Complete parts lie under their final names in a hidden folder beside the target. It is renamed once, to `.ready`, with a
record of what is to stand where; then each part exchanges its place with what was there, and the hidden folder is
deleted with the old parts in it. Where one of these steps fails, those before it are undone. Where the run is killed,
the next one that has to do with the target finishes them: the record says by inode numbers which are done.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from evm_deploy.drafts import CAN_LOCK, DRAFT, find_drafts, lock
from evm_deploy.exchange import exchange
from evm_deploy.files import read_file, sync_file, sync_folder

READY = ".ready"  # ends the name of a hidden folder whose parts are complete
_RECORD, _ASIDE = ".record", ".aside"
_RECORD_BYTES = 1 << 12


@dataclass(frozen=True)
class _Part:
    """A part of a result: its name, and the inode numbers of what is to stand there and of what stood (0: nothing)."""

    name: str
    new: int
    old: int


def name_ready(draft: Path) -> Path:
    """The name of a draft once it is complete."""
    return draft.with_name(draft.name.removesuffix(DRAFT) + READY)


def move_into_place(draft: Path, names: Sequence[str]) -> None:
    """Makes `draft / name` the file or folder `draft.parent / name`, for all names, and deletes what was there.

    Raises OSError: it cannot be done. All is as it was then; where undoing fails too, the next run does the rest.
    """
    parts = [_Part(name, _read_inode(draft / name), _read_inode(draft.parent / name)) for name in names]
    (draft / _RECORD).write_bytes(b"\0".join(os.fsencode(f"{part.new} {part.old} {part.name}") for part in parts))
    sync_file(draft / _RECORD)
    sync_folder(draft)
    ready = name_ready(draft)
    draft.rename(ready)
    try:
        sync_folder(ready.parent)
        _place(ready, parts)
        sync_folder(ready.parent)
    except BaseException:
        _take_back(ready, parts)
        ready.rename(draft)
        raise
    shutil.rmtree(ready, ignore_errors=True)


def finish_replacements(target: Path, may_replace: Callable[[Path], bool]) -> None:
    """Does what killed runs left to do in replacing the folder `target` and the files beside it.

    may_replace: whether the folder that is still there may be deleted.
    """
    for ready in find_drafts(target, READY):
        if not CAN_LOCK and os.path.lexists(target):
            continue  # a run that goes on may hold it
        with contextlib.suppress(OSError), lock(ready, required=True):
            parts = _read_record(ready, target.name)
            begun = any(_stands(ready, part) for part in parts)
            if all(_is_known(ready, part) for part in parts) and (
                begun or not os.path.lexists(target) or may_replace(target)
            ):
                _place(ready, parts)
                sync_folder(ready.parent)
            _discard(ready)


def _place(ready: Path, parts: Sequence[_Part]) -> None:
    for part in parts:
        here, there = ready / part.name, ready.parent / part.name
        if _stands(ready, part) or (os.path.lexists(there) and exchange(here, there)):
            continue
        if os.path.lexists(there):
            there.rename(here.with_name(here.name + _ASIDE))
        here.rename(there)


def _take_back(ready: Path, parts: Sequence[_Part]) -> None:
    for part in reversed(parts):
        here, there = ready / part.name, ready.parent / part.name
        aside = here.with_name(here.name + _ASIDE)
        if _stands(ready, part) and not os.path.lexists(here):
            there.rename(here)
        elif _stands(ready, part) and not exchange(here, there):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(there))
        if os.path.lexists(aside):
            aside.rename(there)


def _discard(ready: Path) -> None:
    """Deletes it, under another name first: half of it must not be taken for complete parts."""
    draft = ready.with_name(ready.name.removesuffix(READY) + DRAFT)
    with contextlib.suppress(OSError):
        ready.rename(draft)
        shutil.rmtree(draft, ignore_errors=True)


def _read_record(ready: Path, target: str) -> list[_Part]:
    """The parts; none where the record is not one that we wrote."""
    try:
        lines = os.fsdecode(read_file(ready / _RECORD, _RECORD_BYTES, OSError)).split("\0")
        parts = [_Part(name, int(new), int(old)) for new, old, name in (line.split(" ", 2) for line in lines)]
    except (OSError, ValueError):
        return []
    return parts if all("/" not in part.name and part.name.startswith(target) for part in parts) else []


def _is_known(ready: Path, part: _Part) -> bool:
    """Whether the part is complete, here or there, and nobody has put something else there since."""
    here, there = _read_inode(ready / part.name), _read_inode(ready.parent / part.name)
    return part.new in (here, there) and there in (part.new, part.old, 0)


def _stands(ready: Path, part: _Part) -> bool:
    return _read_inode(ready.parent / part.name) == part.new


def _read_inode(path: Path) -> int:
    """0 where there is nothing."""
    try:
        return os.lstat(path).st_ino
    except FileNotFoundError:
        return 0
