"""What a checkpoint file holds, read without running anything in it."""

import pickletools
import sys
import warnings
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any

import safetensors
import safetensors.torch
import torch

from evm_deploy.errors import CheckpointError

DOWNLOAD = "Copy or download the file again."
DOWNLOAD_OR_RESAVE = "Copy or download it again, or save the weights alone: torch.save(model.state_dict(), path)."
RESAVE = "Save the weights alone where you trust the file: torch.save(model.state_dict(), path), or safetensors."
CHUNK = 1 << 20

# What a configuration or a log beside the weights may be made of. Nothing here is called: the name is read, not run.
HARMLESS_CALLS = {
    "builtins.frozenset",
    "builtins.range",
    "builtins.slice",
    "collections.defaultdict",
    "copyreg._reconstructor",
    "operator.getitem",  # how a type such as Dict[str, Any] is pickled
    "numpy.dtype",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
}
BLOCKED_MODULES = {"os", "posix", "nt", "sys"}  # torch refuses their very names
HARMLESS_MODULES = {"datetime", "decimal", "fractions", "pathlib", "pathlib._local", "uuid"}


def read(path: Path) -> Any:
    """The object in the file at `path`: nested dicts and lists of CPU tensors and plain values.

    The format is told by the file's first bytes: a zip of torch.save, its older pickle, or safetensors. Objects of
    classes that are not part of torch's own weights-only list become empty stand-ins.

    Raises:
        CheckpointError: it is none of the three, is damaged, or its pickle calls a function.
    """
    with path.open("rb") as file:
        head = file.read(9)
    if head.startswith(b"PK\x03\x04"):
        return _read_zip(path)
    if head[8:] == b"{":
        return _read_safetensors(path)
    if head.startswith(b"\x80"):
        with path.open("rb") as file:
            return _read_pickle(path, _globals(file, pickles=4))  # magic number, protocol, system, object
    raise CheckpointError(
        f"{path} is not a checkpoint: it starts with {head!r}." if head else f"{path} is an empty file.",
        f"Pass what torch.save or safetensors wrote. {DOWNLOAD}",
    )


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path} is damaged or not safetensors: {error}.", DOWNLOAD) from error


def _read_zip(path: Path) -> Any:
    """Checks what torch does not: the checksum of every record, and that none of them expands."""
    try:
        with zipfile.ZipFile(path) as archive:
            for record in archive.infolist():
                if record.compress_type != zipfile.ZIP_STORED:
                    raise CheckpointError(f"{path} has the compressed record {record.filename!r}.", RESAVE)
                with archive.open(record) as content:  # raises BadZipFile at its end if the checksum differs
                    while content.read(CHUNK):
                        pass
            pickles = [name for name in archive.namelist() if name.endswith("data.pkl")]
            if len(pickles) != 1:
                raise CheckpointError(f"{path} is a zip file, but not one of torch.save.", RESAVE)
            with archive.open(pickles[0]) as file:
                names = _globals(file, pickles=1)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {error}.", DOWNLOAD) from error
    return _read_pickle(path, names)


def _read_pickle(path: Path, names: set[str]) -> Any:
    for name in sorted(names):
        if name.partition(".")[0] in BLOCKED_MODULES:
            raise _code(path, name)
    stand_ins: list[Any] = [(_stand_in(name), name) for name in sorted(names)]
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(stand_ins):  # torch's own tensors stay real
            warnings.simplefilter("ignore")  # of rare tensors and old formats: what matters here is refused or read
            return torch.load(path, map_location="cpu", weights_only=True)
    except _CodeError as error:
        raise _code(path, str(error)) from error
    except Exception as error:  # a damaged pickle can fail in any way
        reason = str(error).partition("WeightsUnpickler error: ")[2] or str(error) or type(error).__name__
        line = reason.strip().partition("\n")[0].rstrip(". ")
        raise CheckpointError(f"{path} cannot be read safely: {line}.", DOWNLOAD_OR_RESAVE) from error


def _code(path: Path, name: str) -> CheckpointError:
    return CheckpointError(f"{path} holds code, which was not run: a call of {name}.", RESAVE)


def _globals(file: IO[bytes], pickles: int) -> set[str]:
    """The names that the first `pickles` pickles of `file` refer to, in the spelling of Python 3."""
    names = set()
    try:
        for _ in range(pickles):
            for opcode, argument, _ in pickletools.genops(file):
                if opcode.name == "GLOBAL":
                    module, name = str(argument).split(" ", 1)
                    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
                    names.add(f"{module}.{name}")
    except ValueError:
        pass  # damaged: torch.load, which follows, says how
    return names


class _CodeError(Exception):
    """A pickle calls the function of this name."""


class _StandIn(type):
    """The type of every class made by `_stand_in`."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """A pickle calls the name: refuse, unless a configuration has a use for it."""
        if not _harmless(cls.__name__):
            raise _CodeError(cls.__name__)
        return object.__new__(cls)  # type: ignore[arg-type]  # past the __new__ that `_stand_in` gives it


def _stand_in(name: str) -> type:
    """A class to put in the place of `name`. Its objects carry nothing, and making one runs nothing."""

    def new(cls: type, *args: Any, **kwargs: Any) -> Any:
        return OrderedDict()  # the one kind on which torch's unpickler lets any class set items and attributes

    def setstate(self: Any, state: Any) -> None:
        return None

    return _StandIn(name, (), {"__new__": new, "__setstate__": setstate})


def _harmless(name: str) -> bool:
    """Whether a call of `name` may be passed over in silence. The standard library's others are how attacks begin."""
    module = name.rpartition(".")[0]
    if name in HARMLESS_CALLS or module in HARMLESS_MODULES:
        return True
    return module.partition(".")[0] not in sys.stdlib_module_names | {"numpy", "torch"}
