"""Writes folders of results completely or not at all, without ever replacing other files of the user."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from evm_deploy.errors import EvmDeployError, OptionError, OutputError
from evm_deploy.exchange import exchange
from evm_deploy.files import DRAFT, cannot_write, name_draft, sync_file, sync_folder

try:
    import fcntl
except ImportError:  # Windows: leftovers stay, since they cannot be told from the drafts of running processes
    CAN_LOCK = False
else:
    CAN_LOCK = True

_OLD = ".old"  # ends the name of a folder that was moved aside
_ASIDE = {".DS_Store"}  # files that systems, not users, put into folders


@dataclass(frozen=True)
class FolderKind:
    """A kind of folder that we write, and may therefore replace if the user asks for that."""

    name: str  # "bundle"
    seal: str  # the file at the top whose presence means that the folder is complete
    files: Callable[[Path], Collection[str]]  # relative names of all files of such a folder; of another it may raise


@contextlib.contextmanager
def write_folder(out: str | os.PathLike[str], kind: FolderKind, overwrite: bool = False) -> Iterator[Path]:
    """Yields an empty folder; on leaving the block it becomes `out`, and on any failure nothing is left behind.

    The block must write the kind's seal. With `overwrite` a folder of the kind at `out` is replaced, at the end: even
    after a loss of power, the old folder or the new one is there. What killed runs left beside `out` is removed.
    Raises OutputError: `out` exists (with `overwrite`: and is not of the kind alone), cannot be written, or the disk
    is full.
    """
    target = Path(os.path.realpath(out))
    check_free(target, kind, overwrite)
    made = _list_missing_parents(target)
    draft = name_draft(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target)
        draft.mkdir()
        with _lock(draft):
            yield draft
            if not (draft / kind.seal).is_file():
                raise RuntimeError(f"the block that wrote the {kind.name} did not seal it")
            check_free(target, kind, overwrite)
            _sync_below(draft)
            _move(draft, target)
    except BaseException as error:
        shutil.rmtree(draft, ignore_errors=True)
        for folder in made:
            with contextlib.suppress(OSError):  # not made yet, or somebody put something into it meanwhile
                folder.rmdir()
        if isinstance(error, OSError) and (reason := _explain(error, draft, target)):
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


def check_free(target: Path, kind: FolderKind, overwrite: bool) -> None:
    """Raises OutputError unless `target` may be created, or replaced without losing anything but such a folder."""
    restore_folder(target)
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise OutputError(f"{target} exists.", f"choose another --out, or pass --overwrite to replace a {kind.name}.")
    stranger = _find_stranger(target, kind)
    if stranger is not None:
        raise OutputError(f"{target} is not replaced: {stranger}.", "choose another --out, or remove it yourself.")


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


def _list_missing_parents(target: Path) -> list[Path]:
    """The folders above `target` that do not exist yet, innermost first."""
    return [folder for folder in target.parents if not os.path.lexists(folder)]


def _move(source: Path, target: Path) -> None:
    """Makes `source` the folder `target`. What was there is deleted after that, or is still there if it fails."""
    if not os.path.lexists(target):
        source.rename(target)
    elif exchange(source, target):
        shutil.rmtree(source, ignore_errors=True)
    else:
        old = source.with_suffix(_OLD)
        try:
            target.rename(old)
            source.rename(target)
        except BaseException:
            restore_folder(target)
            raise
        shutil.rmtree(old, ignore_errors=True)
    sync_folder(target.parent)


def restore_folder(target: Path) -> None:
    """Puts back the folder that a run was killed in replacing, where a system takes two steps for that."""
    if not os.path.lexists(target):
        for old in _find_leftovers(target, _OLD)[-1:]:
            old.rename(target)


def _remove_leftovers(target: Path) -> None:
    """Removes what killed runs left that were to write `target`. The drafts of runs that go on are locked."""
    for left in _find_leftovers(target, DRAFT) if CAN_LOCK else ():
        with contextlib.suppress(OSError), _lock(left, required=True):
            shutil.rmtree(left)
    for left in _find_leftovers(target, _OLD) if os.path.lexists(target) else ():
        shutil.rmtree(left, ignore_errors=True)


def _find_leftovers(target: Path, suffix: str) -> list[Path]:
    """The drafts for `target`, or by the other suffix what was moved aside for it."""
    named = re.compile(re.escape(f".{target.name[:50]}.") + r"[0-9a-f]{8}" + re.escape(suffix))
    folder = target.parent
    return sorted(path for path in folder.iterdir() if named.fullmatch(path.name)) if folder.is_dir() else []


@contextlib.contextmanager
def _lock(folder: Path, *, required: bool = False) -> Iterator[None]:
    """Holds the folder until the block ends or this process does.

    With `required` raises OSError where another process holds it; without, goes on where the file system has no locks.
    """
    if not CAN_LOCK:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.nullcontext() if required else contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _sync_below(folder: Path) -> None:
    """Has the system write every file below `folder`, and the folders that name them, to the disk."""
    for file in list_files(folder):
        if not file.is_symlink():
            sync_file(file)
    for place, _, _ in os.walk(folder):
        sync_folder(Path(place))


def _explain(error: OSError, draft: Path, target: Path) -> OutputError | None:
    """An OSError of the destination as ours; None for one that has to do with another file."""
    folder = isinstance(error, shutil.Error)  # of copying one: it has no errno, and a list of reasons
    if folder and os.strerror(errno.ENOSPC) in str(error):
        return cannot_write(str(target), OSError(errno.ENOSPC, str(error)))
    if folder:
        return OutputError(f"{target} cannot be written.", "choose another --out.")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return cannot_write(str(target), error)
    named = (name for name in (error.filename, error.filename2) if isinstance(name, (str, bytes, os.PathLike)))
    places = [Path(os.fsdecode(name)) for name in named]
    ours = (draft, target, *target.parents)
    if any(place in ours or draft in place.parents for place in places):
        return cannot_write(str(target), error)
    return None
