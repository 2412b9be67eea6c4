"""Files: written whole or not at all, and read only where they are regular files of a bounded size."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from evm_deploy.drafts import lock, name_draft, remove_drafts
from evm_deploy.errors import OutputError

_BLOCK = 1 << 20  # bytes read at a time

Fail = Callable[[str], Exception]  # the error to raise, from its cause, a sentence


@contextlib.contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Yields a name beside `path` to write a file to. On leaving the block the file becomes `path`; on any failure it
    is removed, and what was at `path` is still there. What killed runs left there is removed. Raises OSError.
    """
    remove_drafts(path)
    draft = name_draft(path)
    try:
        draft.touch(exist_ok=False)
        with lock(draft):
            yield draft
            sync_file(draft)
            draft.replace(path)
        sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


def write_file(path: Path, content: bytes | str, place: str = "--out", what: str = "") -> None:
    """Writes all of `content` (text as UTF-8) to `path`, whose folder is made where it is missing, or nothing.

    place: what the user has to choose anew where it fails; what: the name of the file in the error's text.
    Raises OutputError: the disk is full, or the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_file(path) as draft:
            draft.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "replace"))
    except OSError as error:
        raise cannot_write(what or str(path), error, place) from error


def cannot_write(what: str, error: OSError, place: str = "--out") -> OutputError:
    """An OSError of writing `what`, as ours. place: what the user has to choose anew."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(f"the disk is full: {what} is not written.", f"free some space, or choose another {place}.")
    reason = error.strerror or str(error) or type(error).__name__
    return OutputError(f"{what} cannot be written ({reason}).", f"choose another {place}.")


def read_file(path: Path, limit: int, fail: Fail) -> bytes:
    """The bytes of a regular file that has at most `limit` of them; a pipe or a device is not opened.

    Raises what `fail` makes of the cause: there is no such file, it cannot be read, it has more bytes.
    """
    size = _check_size(path, limit, fail)
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError as error:
        raise fail(f"{path} cannot be read ({error.strerror or error}).") from error


def read_text(path: Path, limit: int, fail: Fail, encoding: str = "utf-8") -> str:
    """As `read_file`, the text in the file. `fail` is called as well where it is not UTF-8."""
    try:
        return read_file(path, limit, fail).decode(encoding)
    except UnicodeDecodeError:
        raise fail(f"{path} is not UTF-8 text.") from None


def is_utf8(path: str | os.PathLike[str]) -> bool:
    """Whether the path is text: names on Linux are bytes, and most libraries open no others."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def find_file(folder: Path, name: str, fail: Fail, limit: int | None = None, shown: Path | None = None) -> Path:
    """The regular file `name`, a relative path with `/`, of `folder`, reached through no link below it.

    limit: bytes that it may have; shown: the folder's name in the error's text.
    Raises what `fail` makes of the cause: `name` leaves the folder, a link is on the way, no such file, too large.
    """
    try:
        check_relative(name)
    except ValueError as error:
        raise fail(f"{error}.") from None
    path, where = folder, shown or folder
    for part in name.split("/"):
        path = path / part
        if path.is_symlink():
            raise fail(f"{name} in {where} is a link, which may leave the folder.")
    if not path.is_file():
        raise fail(f"{name} is missing from {where}.")
    if limit is not None:
        _check_size(path, limit, fail)
    return path


def is_lfs_pointer(path: Path) -> bool:
    """Whether git LFS left a pointer in the place of a file. Raises OSError."""
    with path.open("rb") as file:
        return file.read(23) == b"version https://git-lfs"


def check_relative(name: str) -> None:
    """Raises ValueError unless `name` is a plain relative path with `/`, on every system, that stays in its folder."""
    bad = any(ord(char) < 32 or char in '\\:*?"<>|' for char in name)
    if bad or any(part in ("", ".", "..") for part in name.split("/")):
        raise ValueError(f"{name!r} leaves the bundle's folder or is not a portable relative path")


def sha256_file(path: str | os.PathLike[str]) -> str:
    """The sha256 of a file's bytes, as 64 hexadecimal digits. Raises OSError."""
    return digest_file(path).hex()


def digest_file(path: str | os.PathLike[str], algorithm: str = "sha256") -> bytes:
    """The digest of a file's bytes by an algorithm of hashlib. Raises OSError."""
    digest = hashlib.new(algorithm)
    with Path(path).open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.digest()


def _check_size(path: Path, limit: int, fail: Fail) -> int:
    """Bytes of the file."""
    try:
        found = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise fail(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}).") from error
    if not stat.S_ISREG(found.st_mode):
        raise fail(f"{path} is not a file.")
    if found.st_size > limit:
        raise fail(f"{path} has more than {limit} bytes.")
    return found.st_size


def sync_file(path: Path) -> None:
    """Has the system write the file to the disk, so that no crash leaves an empty file under its final name."""
    handle = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        os.close(handle)


def sync_folder(path: Path) -> None:
    """Has the system write the names in the folder to the disk, where it can. Raises OSError: the disk fails."""
    try:
        sync_file(path)
    except OSError as error:
        if error.errno in (errno.EIO, errno.ENOSPC, errno.EDQUOT):
            raise  # Windows opens no folders, and some file systems sync none: other errors say that


def package_folders() -> list[Path]:
    """The folders of this package: an editable installation has two, the sources and what was built of them."""
    return [Path(folder) for folder in sys.modules[__package__].__path__]
