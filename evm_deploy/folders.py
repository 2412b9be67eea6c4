"""Writes folders of results completely or not at all, without ever replacing other files of the user."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from evm_deploy.drafts import lock, name_draft, remove_drafts
from evm_deploy.errors import EvmDeployError, OptionError, OutputError
from evm_deploy.files import cannot_write, is_utf8, sync_file, sync_folder
from evm_deploy.replacement import finish_replacements, move_into_place, name_ready

_READS = 10  # of a folder that is replaced while it is read
_ASIDE = {".DS_Store"}  # files that systems, not users, put into folders


Result = TypeVar("Result")


@dataclass(frozen=True)
class FolderKind:
    """A kind of folder that we write, and may therefore replace if the user asks for that."""

    name: str  # "bundle"
    seal: str  # the file at the top whose presence means that the folder is complete
    files: Callable[[Path], Collection[str]]  # relative names of all files of such a folder; of another it may raise
    owns_file: Callable[[Path], bool] = lambda file: False  # whether a file beside such a folder is part of the result


@contextlib.contextmanager
def write_folder(out: str | os.PathLike[str], kind: FolderKind, overwrite: bool = False) -> Iterator[Path]:
    """Yields an empty folder; on leaving the block it becomes `out`, and on any failure nothing is left behind.

    The block must write the kind's seal. With `overwrite` a folder of the kind at `out` is replaced, at the end: even
    after a loss of power, the old folder or the new one is there. What killed runs left beside `out` is removed.
    Raises OutputError: `out` exists (with `overwrite`: and is not of the kind alone), cannot be written, or the disk
    is full.
    """
    with write_folder_and_files(out, kind, overwrite, ()) as (folder, _):
        yield folder


@contextlib.contextmanager
def write_folder_and_files(
    out: str | os.PathLike[str], kind: FolderKind, overwrite: bool, beside: Sequence[str]
) -> Iterator[tuple[Path, list[Path]]]:
    """As `write_folder`, with the files of these names beside `out`, all of which the block must write.

    They and the folder are one result: with `overwrite` all are replaced or none.
    """
    target = Path(os.path.realpath(out))
    check_free(target, kind, overwrite, beside)
    made = _list_missing_parents(target)
    draft = name_draft(target)
    folder, files = draft / target.name, [draft / name for name in beside]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_drafts(target)
        draft.mkdir()
        with lock(draft):
            folder.mkdir()
            yield folder, files
            if not (folder / kind.seal).is_file():
                raise RuntimeError(f"the block that wrote the {kind.name} did not seal it")
            check_free(target, kind, overwrite, beside)
            _sync_below(draft)
            move_into_place(draft, [target.name, *beside])
    except BaseException as error:
        shutil.rmtree(draft, ignore_errors=True)
        for parent in made:
            with contextlib.suppress(OSError):  # not made yet, or somebody put something into it meanwhile
                parent.rmdir()
        if isinstance(error, OSError) and (
            reason := _explain(error, draft, [target, *(target.with_name(name) for name in beside)])
        ):
            raise reason from error
        raise


def check_outside(out: str | os.PathLike[str], bundles: Iterable[Path]) -> None:
    """Raises OptionError for an `out` that is one of the bundles, or in it: a bundle holds what its manifest lists."""
    target = Path(os.path.realpath(out))
    for bundle in bundles:
        if Path(os.path.realpath(bundle)) in (target, *target.parents):
            raise OptionError(f"{out} is the bundle {bundle}, or in it.", "choose a place of its own for the result.")


def list_files(root: Path) -> Iterator[Path]:
    """Every file below `root`, links among them, none followed."""
    return (Path(folder, name) for folder, _, names in os.walk(root) for name in names)


def check_free(target: Path, kind: FolderKind, overwrite: bool, beside: Sequence[str] = ()) -> None:
    """Raises OutputError unless `target`, and the files of these names beside it, may be created, or replaced without
    losing anything but such a folder and its files.
    """
    if not is_utf8(target):
        raise OutputError(f"the path of {target} is not UTF-8: libraries cannot write there.", "choose another --out.")
    restore_folder(target, kind)
    for place in (target, *(target.with_name(name) for name in beside)):
        if not os.path.lexists(place):
            continue
        if not overwrite:
            raise OutputError(
                f"{place} exists.", f"choose another --out, or pass --overwrite to replace a {kind.name}."
            )
        stranger = _find_stranger(place, kind) if place == target else _find_strange_file(place, kind)
        if stranger is not None:
            raise OutputError(f"{place} is not replaced: {stranger}.", "choose another --out, or remove it yourself.")


def _find_strange_file(place: Path, kind: FolderKind) -> str | None:
    """Why deleting the file could lose something of the user's; None for one of the kind."""
    ours = not place.is_symlink() and place.is_file() and kind.owns_file(place)
    return None if ours else f"it does not belong to a {kind.name}"


def _find_stranger(target: Path, kind: FolderKind) -> str | None:
    """Why deleting `target` could lose something of the user's; None for a folder of the kind, or an empty one."""
    if not target.is_dir():
        return "it is not a folder"
    if target in (Path.cwd(), *Path.cwd().parents):
        return "it is the current folder, or holds it"
    if target.is_mount():
        return "another file system is mounted there"
    if all(entry.name in _ASIDE for entry in target.iterdir()):
        return None
    try:
        ours = set(kind.files(target))
    except (EvmDeployError, OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
        ours = set()
    if kind.seal not in ours:
        return f"it is not a {kind.name}"
    names = {file.relative_to(target).as_posix() for file in list_files(target) if file.name not in _ASIDE}
    others = sorted(names - ours)
    return f"it holds {others[0]}, which is not part of the {kind.name}" if others else None


def restore_folder(target: Path, kind: FolderKind) -> None:
    """Finishes what a run was killed in: replacing the folder `target`, and the files beside it."""
    finish_replacements(target, lambda folder: _find_stranger(folder, kind) is None)


def read_whole(folder: Path, read: Callable[[], Result]) -> Result:
    """What `read` makes of the folder; again where the folder was replaced meanwhile, so that it saw half of each.

    Raises what `read` does, of a folder that stayed the same; OutputError where it is replaced all the time.
    """
    for _ in range(_READS):
        before = _identify(folder)
        try:
            result = read()
        except (EvmDeployError, OSError):
            if _identify(folder) == before:
                raise
        else:
            if _identify(folder) == before:
                return result
    raise OutputError(f"{folder} is replaced again and again.", "wait until nothing writes there.")


def _identify(folder: Path) -> tuple[int, int, int] | None:
    """Which folder has this name now; None: none."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _list_missing_parents(target: Path) -> list[Path]:
    """The folders above `target` that do not exist yet, innermost first."""
    return [folder for folder in target.parents if not os.path.lexists(folder)]


def _sync_below(folder: Path) -> None:
    """Has the system write every file below `folder`, and the folders that name them, to the disk."""
    for file in list_files(folder):
        if not file.is_symlink():
            sync_file(file)
    for place, _, _ in os.walk(folder):
        sync_folder(Path(place))


def _explain(error: OSError, draft: Path, targets: Sequence[Path]) -> OutputError | None:
    """An OSError of the destination as ours; None for one that has to do with another file."""
    target = targets[0]
    folder = isinstance(error, shutil.Error)  # of copying one: it has no errno, and a list of reasons
    if folder and os.strerror(errno.ENOSPC) in str(error):
        return cannot_write(str(target), OSError(errno.ENOSPC, str(error)))
    if folder:
        return OutputError(f"{target} cannot be written.", "choose another --out.")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return cannot_write(str(target), error)
    named = (name for name in (error.filename, error.filename2) if isinstance(name, (str, bytes, os.PathLike)))
    places = [Path(os.fsdecode(name)) for name in named]
    hidden = (draft, name_ready(draft))
    ours = {*hidden, *targets, *target.parents}
    if any(place in ours or not set(hidden).isdisjoint(place.parents) for place in places):
        return cannot_write(str(target), error)
    return None
