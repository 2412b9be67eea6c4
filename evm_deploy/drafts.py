"""What is not complete yet: its name beside the target, the lock of the run that writes it, what killed runs left."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: leftovers stay, since they cannot be told from the drafts of running processes
    CAN_LOCK = False
else:
    CAN_LOCK = True

DRAFT = ".partial"  # ends the name of what is being written


def name_draft(target: Path) -> Path:
    """A name beside `target` that nothing has, to write to before it becomes `target`."""
    return target.parent / f".{target.name[:50]}.{secrets.token_hex(4)}{DRAFT}"


def find_drafts(target: Path, suffix: str = DRAFT) -> list[Path]:
    """What is beside `target` under a name of `name_draft`, or under one that ends in another suffix."""
    named = re.compile(re.escape(f".{target.name[:50]}.") + r"[0-9a-f]{8}" + re.escape(suffix))
    folder = target.parent
    return sorted(path for path in folder.iterdir() if named.fullmatch(path.name)) if folder.is_dir() else []


def remove_drafts(target: Path) -> None:
    """Removes what killed runs left that were to write `target`. The drafts of runs that go on are locked."""
    for left in find_drafts(target) if CAN_LOCK else ():
        with contextlib.suppress(OSError), lock(left, required=True):
            shutil.rmtree(left) if left.is_dir() else left.unlink()


@contextlib.contextmanager
def lock(path: Path, *, required: bool = False) -> Iterator[None]:
    """Holds a file or folder until the block ends or this process does.

    With `required` raises OSError where another process holds it; without, goes on where the file system has no locks.
    """
    if not CAN_LOCK:
        yield
        return
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # a pipe of that name has no writer
    try:
        with contextlib.nullcontext() if required else contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)
