"""What a checkpoint file holds, read without running anything in it: its format, its records, its checksums."""

import io
import re
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from evm_deploy.errors import CheckpointError, first_line
from evm_deploy.files import is_utf8
from evm_deploy.models.pickles import CodeError, LoadStorage, Unpickler

DOWNLOAD = "Copy or download the file again."
DOWNLOAD_OR_RESAVE = "Copy or download it again, or save the weights alone: torch.save(model.state_dict(), path)."
RESAVE = "Save the weights alone where you trust the file: torch.save(model.state_dict(), path), or safetensors."
CHUNK = 1 << 20
MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of torch.save's older format
# What is found in the place of a checkpoint: how it begins, what it is, and what to do.
OTHER_FILES = (
    (rb"version https://git-lfs", "a pointer of git LFS, not the file itself", "Run `git lfs pull`."),
    (rb"(?i)\s*<(!doctype|html|\?xml|head)", "a web page", "Download the file itself, not the page about it."),
    (rb"\x08[\x03-\x1f][\x12\x1a\x22\x2a\x32\x3a\x42]", "an ONNX file", "Pass the checkpoint that it was made from."),
    (rb"\x89HDF", "an HDF5 file, which Keras writes", "Pass what torch.save or safetensors wrote."),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc", "compressed", "Unpack it first."),
)
_OTHER_ORDER = "was written on a machine with another order of bytes"


@dataclass(frozen=True)
class FileContent:
    """What a file holds. `not_loaded`: the names of classes and functions that it refers to beside the weights."""

    held: Any  # nested dicts and lists of CPU tensors, plain values, and stand-ins (`pickles.StandIn`)
    not_loaded: tuple[str, ...] = ()


def read(path: Path) -> FileContent:
    """The object in the file at `path`.

    The format is told by the file's first bytes: a zip of torch.save, its older pickles, or safetensors.

    Raises:
        CheckpointError: it is none of the three, is damaged, or its pickle calls a function.
    """
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(b"PK\x03\x04"):
        return _read_zip(path)
    if head[8:9] == b"{":
        return _read_safetensors(path)
    if head.startswith(b"\x80"):
        return _read_pickles(path)
    raise _refuse_format(path, head)


def _refuse_format(path: Path, head: bytes) -> CheckpointError:
    """The error for a file that begins in this way, which no checkpoint does."""
    for start, what, fix in OTHER_FILES:
        if re.match(start, head):
            return CheckpointError(f"{path} is {what}.", fix)
    return CheckpointError(
        f"{path} is not a checkpoint: it starts with {head[:9]!r}." if head else f"{path} is an empty file.",
        f"Pass what torch.save or safetensors wrote. {DOWNLOAD}",
    )


def _read_safetensors(path: Path) -> FileContent:
    try:
        load = safetensors.torch.load_file
        return FileContent(load(path) if is_utf8(path) else safetensors.torch.load(path.read_bytes()))
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path} is damaged or not safetensors: {error}.", DOWNLOAD) from error


def _read_zip(path: Path) -> FileContent:
    try:
        with zipfile.ZipFile(path) as archive:
            _check_records(path, archive)
            name = _find_pickle(path, archive)
            top, storages = name.removesuffix("data.pkl"), dict[str, Tensor]()

            def load_storage(dtype: torch.dtype, key: str, count: int, view: Any) -> Tensor:
                if key not in storages:
                    storages[key] = _make_tensor(bytearray(archive.read(f"{top}data/{key}")))
                return storages[key]

            return _unpickle(path, io.BytesIO(archive.read(name)), load_storage)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {error}.", DOWNLOAD) from error


def _check_records(path: Path, archive: zipfile.ZipFile) -> None:
    """Raises CheckpointError or BadZipFile: a record expands, or has another checksum than is stored."""
    size = 0
    for record in archive.infolist():
        if record.compress_type != zipfile.ZIP_STORED:
            raise CheckpointError(f"{path} has the compressed record {record.filename!r}.", RESAVE)
        size += record.file_size
        if size > path.stat().st_size:
            raise CheckpointError(f"{path} is damaged: its records have more bytes than it.", DOWNLOAD)
        with archive.open(record) as content:  # raises BadZipFile at its end if the checksum differs
            while content.read(CHUNK):
                pass


def _find_pickle(path: Path, archive: zipfile.ZipFile) -> str:
    """The name of the record that refers to the others. Raises CheckpointError: torch.save did not write the file."""
    names = archive.namelist()
    found = [name for name in names if name.endswith("data.pkl")]
    if len(found) != 1:
        package = any(name.endswith("/evm-package.json") for name in names)
        what = "a package" if package else "a zip file, but not one of torch.save"
        raise CheckpointError(f"{path} is {what}.", "Pass the checkpoint itself.")
    top = found[0].removesuffix("data.pkl")
    if f"{top}constants.pkl" in names:
        raise CheckpointError(f"{path} is a TorchScript program, whose code is not run.", RESAVE)
    if f"{top}byteorder" in names and archive.read(f"{top}byteorder") != b"little":
        raise CheckpointError(f"{path} {_OTHER_ORDER}.", RESAVE)
    return found[0]


def _read_pickles(path: Path) -> FileContent:
    """torch.save's older format: magic number, protocol, system, object, keys of storages; then each storage."""
    storages: dict[str, tuple[bytearray, int]] = {}
    limit = path.stat().st_size

    def load_storage(dtype: torch.dtype, key: str, count: int, view: Any) -> Tensor:
        size = count * dtype.itemsize
        if view is not None or not 0 <= size <= limit - sum(len(held) for held, _ in storages.values()):
            raise ValueError(f"storage {key!r} has {count} elements")
        held, _ = storages.setdefault(key, (bytearray(size), count))
        return _make_tensor(held)

    with path.open("rb") as file:
        magic, _, system, found, keys = (_unpickle(path, file, load_storage) for _ in range(5))
        if magic.held != MAGIC or not isinstance(keys.held, list) or set(keys.held) != storages.keys():
            raise CheckpointError(f"{path} cannot be read safely: torch.save did not write it.", DOWNLOAD_OR_RESAVE)
        if not system.held.get("little_endian", True):
            raise CheckpointError(f"{path} {_OTHER_ORDER}.", RESAVE)
        for key in keys.held:
            held, count = storages[key]
            if file.read(8) != struct.pack("<q", count) or file.readinto(held) != len(held):
                raise CheckpointError(f"{path} is damaged: it ends within its tensors.", DOWNLOAD)
    return found


def _unpickle(path: Path, file: IO[bytes], load_storage: LoadStorage) -> FileContent:
    """Reads the pickle that is next in `file`."""
    try:
        unpickler = Unpickler(file, load_storage)
        return FileContent(unpickler.load(), unpickler.list_names())
    except CodeError as error:
        raise CheckpointError(f"{path} holds code, which was not run: a call of {error}.", RESAVE) from error
    except Exception as error:  # a damaged pickle can fail in any way
        raise CheckpointError(f"{path} cannot be read safely: {first_line(error)}.", DOWNLOAD_OR_RESAVE) from error


def _make_tensor(content: bytearray) -> Tensor:
    """(bytes,), on memory that nothing makes larger."""
    return torch.frombuffer(content or bytearray(1), dtype=torch.uint8)[: len(content)]
