"""Results that are folders: complete or not there at all, and never in the place of anything of the user's."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from evm_deploy.errors import EvmDeployError, OptionError, OutputError
from evm_deploy.files import cannot_write, name_draft

_ASIDE = {".DS_Store"}  # put into folders by a system, not by their user


@dataclass(frozen=True)
class Kind:
    """A kind of folder that we write, and may therefore replace when asked to."""

    name: str  # "bundle"
    seal: str  # the file that is there, at the top, when it is complete
    files: Callable[[Path], Collection[str]]  # relative names of all files of such a folder; of another it may raise


@contextlib.contextmanager
def write_folder(out: str | os.PathLike[str], kind: Kind, overwrite: bool = False) -> Iterator[Path]:
    """Yields an empty folder; on leaving the block it becomes `out`, and on any failure nothing is left behind.

    The block must write the kind's seal. With `overwrite` a folder of the kind at `out` is replaced, at the end.
    Raises OutputError: `out` exists (with `overwrite`: and is not of the kind alone), cannot be written, or the disk
    is full.
    """
    target = Path(os.path.realpath(out))
    check_free(target, kind, overwrite)
    made = _missing_parents(target)
    draft = name_draft(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir()
        yield draft
        if not (draft / kind.seal).is_file():
            raise RuntimeError(f"the block that wrote the {kind.name} did not seal it")
        check_free(target, kind, overwrite)
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


def files_below(root: Path) -> Iterator[Path]:
    """Every file below `root`, links among them, none followed."""
    return (Path(folder, name) for folder, _, names in os.walk(root) for name in names)


def check_free(target: Path, kind: Kind, overwrite: bool) -> None:
    """Raises OutputError unless `target` may be created, or replaced without losing anything but such a folder."""
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise OutputError(f"{target} exists.", f"choose another --out, or pass --overwrite to replace a {kind.name}.")
    stranger = _stranger(target, kind)
    if stranger is not None:
        raise OutputError(f"{target} is not replaced: {stranger}.", "choose another --out, or remove it yourself.")


def _stranger(target: Path, kind: Kind) -> str | None:
    """Why deleting `target` could lose something of the user's; None for a folder of the kind, or an empty one."""
    if not target.is_dir():
        return "it is not a folder"
    if target in (Path.cwd(), *Path.cwd().parents):
        return "it is the current folder, or holds it"
    if all(entry.name in _ASIDE for entry in target.iterdir()):
        return None
    try:
        ours = set(kind.files(target))
    except (EvmDeployError, OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
        ours = set()
    if kind.seal not in ours:
        return f"it is not a {kind.name}"
    names = {file.relative_to(target).as_posix() for file in files_below(target) if file.name not in _ASIDE}
    others = sorted(names - ours)
    return f"it holds {others[0]}, which is not part of the {kind.name}" if others else None


def _missing_parents(target: Path) -> list[Path]:
    """The folders above `target` that do not exist yet, innermost first."""
    return [folder for folder in target.parents if not os.path.lexists(folder)]


def _move(source: Path, target: Path) -> None:
    """Renames `source` to `target`; what was there is put back if that fails, and deleted only after it worked."""
    old = source.with_suffix(".old")
    try:
        if os.path.lexists(target):
            target.rename(old)
        source.rename(target)
    except BaseException:
        if os.path.lexists(old) and not os.path.lexists(target):
            old.rename(target)
        raise
    finally:
        if os.path.lexists(target):
            shutil.rmtree(old, ignore_errors=True)


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
