"""A package as one zip file. The same files give the same bytes, at any time and on any machine."""

from __future__ import annotations

import shutil
import stat
import zipfile
from pathlib import Path

from evm_deploy.errors import BundleError, first_line
from evm_deploy.files import check_relative
from evm_deploy.folders import list_files
from evm_deploy.packaging.contents import INDEX, SIGNATURE
from evm_deploy.packaging.index import LARGEST, Index

_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest date in the format
_LARGEST_PACKAGE = 16 << 30  # largest number of bytes to unpack
_FIX = "package the bundles again, or copy the whole archive."


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
        fix = "name what `evm-deploy package` wrote, or a bundle's folder; of a checkpoint, export one."
        raise BundleError(f"{path} holds no package: its top folder has no {INDEX}.", fix)
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


def is_part(path: Path) -> bool:
    """Whether a file is the archive of a package, or a signature."""
    if path.suffix == ".minisig":
        with path.open("rb") as file:
            return file.read(18) == b"untrusted comment:"
    return has_index(path)


def has_index(path: Path) -> bool:
    """Whether the file is a zip whose top folder has a package's index."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.split("/")[1:] == [INDEX] for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False
