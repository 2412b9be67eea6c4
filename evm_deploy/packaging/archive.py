"""A package as one zip file. The same files give the same bytes, at any time and on any machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from evm_deploy.errors import BundleError, OutputError, first_line
from evm_deploy.files import check_relative, replace_file
from evm_deploy.folders import list_files
from evm_deploy.packaging.contents import INDEX, SIGNATURE
from evm_deploy.packaging.index import LARGEST, Index

_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest date in the format
_LARGEST_PACKAGE = 16 << 30  # largest number of bytes to unpack
_FIX = "package the bundles again, or copy the whole archive."


@contextlib.contextmanager
def write_files(targets: Sequence[Path], overwrite: bool) -> Iterator[list[Path]]:
    """Yields a temporary file for each target. They are renamed to the targets at the end, or removed on any failure.

    Raises OutputError: a target exists (with `overwrite`: and is neither archive nor signature of a package), or
    cannot be written.
    """
    for target in targets:
        _check_free(target, overwrite)
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(replace_file(target)) for target in targets]
        for target in targets:
            _check_free(target, overwrite)


def write_archive(folder: Path, out: Path, top: str) -> None:
    """Writes every file of `folder` into the zip file `out`, below the folder `top` there.

    Nothing is compressed: weights hardly shrink, and the output of compressors changes between versions.
    """
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, file in sorted((file.relative_to(folder).as_posix(), file) for file in list_files(folder)):
            entry = zipfile.ZipInfo(f"{top}/{name}", _DATE)
            entry.create_system = 3  # Unix, so that the modes are kept
            entry.external_attr = file.stat().st_mode << 16
            with file.open("rb") as source, archive.open(entry, "w", force_zip64=True) as target:
                shutil.copyfileobj(source, target, 1 << 20)


def unpack(path: Path, folder: Path) -> Path:
    """Unpacks the package in the zip file `path` into `folder`; returns its folder there.

    Writes only the files that the package's index lists, and no more bytes than it states. Raises BundleError: not a
    zip file, damaged, not a package, or a file that the index does not list or gives another size.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            top, index = _read_index(archive, path)
            _check_entries(archive, top, index, path)
            for entry in archive.infolist():
                target = folder / "package" / entry.filename.removeprefix(top)
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, target.open("wb") as written:
                    shutil.copyfileobj(source, written, 1 << 20)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, OSError, RuntimeError, ValueError) as error:
        raise BundleError(f"{path} cannot be unpacked ({first_line(error)}).", _FIX) from None
    return folder / "package"


def _read_index(archive: zipfile.ZipFile, path: Path) -> tuple[str, Index]:
    """The package's folder in the archive, with a `/` at the end, and its index."""
    found = [entry for entry in archive.infolist() if entry.filename.split("/")[1:] == [INDEX]]
    if len(found) != 1:
        raise BundleError(f"{path} holds no package: its top folder has no {INDEX}.", _FIX)
    if found[0].file_size > LARGEST:
        raise BundleError(f"{INDEX} in {path} has more than {LARGEST} bytes.", _FIX)
    return found[0].filename.removesuffix(INDEX), Index.from_json(archive.read(found[0]))


def _check_entries(archive: zipfile.ZipFile, top: str, index: Index, path: Path) -> None:
    """Raises BundleError unless the archive holds exactly the files that the index lists, each once."""
    others = {INDEX: LARGEST, SIGNATURE: 1 << 16}
    if sum(record.bytes for record in index.files.values()) > _LARGEST_PACKAGE:
        raise BundleError(
            f"{path} holds more than {_LARGEST_PACKAGE >> 30} GiB.", "unpack it yourself, then verify the folder."
        )
    seen: set[str] = set()
    for entry in archive.infolist():
        name = entry.filename.removeprefix(top)
        record = index.files.get(name)
        linked = stat.S_ISLNK(entry.external_attr >> 16)
        if linked or name in seen or not entry.filename.startswith(top) or (record is None and name not in others):
            raise BundleError(f"{entry.filename!r} in {path} is not part of the package.", _FIX)
        check_relative(name)
        size = entry.file_size
        if (record is not None and size != record.bytes) or (record is None and size > others[name]):
            raise BundleError(f"{name} in {path} does not have the size in the package's index.", _FIX)
        seen.add(name)


def _check_free(target: Path, overwrite: bool) -> None:
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise OutputError(f"{target} exists.", "choose another --out, or pass --overwrite to replace it.")
    if target.is_symlink() or not target.is_file() or not _is_ours(target):
        what = "it is neither the archive nor the signature of a package"
        raise OutputError(f"{target} is not replaced: {what}.", "choose another --out, or remove it yourself.")


def _is_ours(path: Path) -> bool:
    if path.suffix == ".minisig":
        with path.open("rb") as file:
            return file.read(18) == b"untrusted comment:"
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.split("/")[1:] == [INDEX] for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False
