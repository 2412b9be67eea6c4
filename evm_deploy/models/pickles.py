"""Reads the pickles of torch.save without looking up a single name that is in them.

Dictionaries, lists, plain values and dense tensors are read. Whatever else a pickle refers to, builds or calls becomes
a `StandIn`, which takes what it is given and does nothing.
"""

from __future__ import annotations

import os
import pickle
import pickletools
import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Callable
from typing import IO, Any, cast

import torch
from torch import Tensor

# What a pickle says of a storage: its type, key, number of elements, and whether it is a part of another -> its bytes.
LoadStorage = Callable[[torch.dtype, str, int, Any], Tensor]

_DTYPES_BY_NAME = {str(each): each for each in vars(torch).values() if isinstance(each, torch.dtype)}
DTYPES = {  # by the storages that hold them
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexDoubleStorage": torch.complex128,
    "ComplexFloatStorage": torch.complex64,
    "QInt8Storage": torch.int8,
    "QUInt8Storage": torch.uint8,
    "QInt32Storage": torch.int32,
    "QUInt4x2Storage": torch.uint8,
    "QUInt2x4Storage": torch.uint8,
    "UntypedStorage": torch.uint8,
}

# Nothing that a pickle calls is run. Calls of the standard library, numpy and torch are how attacks begin, and are
# refused, but for what configurations, logs and optimizers beside the weights are made of.
_WATCHED = sys.stdlib_module_names | {"numpy", "torch"}
_DATA = frozenset(  # modules with all that is in them, and single names
    """argparse collections copyreg datetime decimal enum fractions ipaddress itertools numbers pathlib random string
    typing uuid zoneinfo numpy.random numpy.ma.core numpy.dtypes torch.amp torch.cuda.amp torch.optim torch.nn
    torch.distributed
    builtins.bool builtins.bytes builtins.bytearray builtins.complex builtins.dict builtins.enumerate builtins.float
    builtins.frozenset builtins.int builtins.iter builtins.list builtins.object builtins.range builtins.reversed
    builtins.set builtins.slice builtins.str builtins.tuple builtins.type builtins.zip _codecs.encode functools.partial
    functools.reduce logging.getLogger operator.getitem _operator.getitem operator.attrgetter operator.itemgetter
    operator.or_ _operator.or_ re._compile types.GenericAlias types.SimpleNamespace types.UnionType
    numpy.dtype numpy.ndarray numpy.core.multiarray._reconstruct numpy.core.multiarray.scalar
    numpy.core.numeric._frombuffer numpy._core.multiarray._reconstruct numpy._core.multiarray.scalar
    numpy._core.numeric._frombuffer torch.device torch.serialization._get_layout""".split()
)
_REBUILD = "torch._utils._rebuild_"  # tensors of other kinds, which become stand-ins
_PLAIN = ("builtins.", "collections.", "_codecs.", "numpy.", "torch._utils.", *(f"torch.{name}" for name in DTYPES))

_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")
_DEEPEST, _LARGEST = 100, 1 << 22  # of tuples: levels, and elements with those of the elements


class CodeError(Exception):
    """The pickle calls the function of this name, which nothing that is saved beside weights needs."""


class _Name(type):
    """The type of what stands in the place of a name."""

    path: str
    watched: bool  # whether a call of it may be an attack

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """The pickle calls what has the name."""
        if cls.path in _TENSORS:
            return _TENSORS[cls.path](*args)
        if cls.path == "builtins.getattr" and len(args) == 2 and isinstance(args[1], str):
            return _get_attribute(*args)  # of a class within a class, and of a method
        if not _is_data(cls.path):
            raise CodeError(cls.path)
        made: StandIn = OrderedDict.__new__(cast(type[StandIn], cls))
        return made


class StandIn(OrderedDict[Any, Any], metaclass=_Name):
    """An object of a class that was not loaded. It has the items that it was given; its attributes lie in one."""

    path, watched = "", False
    is_module = False  # a torch.nn.Module, by what it is made of
    attributes: dict[Any, Any] | None = None

    __hash__ = object.__hash__  # type: ignore[assignment]  # objects may be keys, where dictionaries may not

    def __setstate__(self, state: Any) -> None:
        self.attributes = state if isinstance(state, dict) else None
        self.is_module = self.attributes is not None and {"_parameters", "_modules"} <= self.attributes.keys()

    def __call__(self, *args: Any, **kwargs: Any) -> StandIn:
        return self

    def append(self, item: Any) -> None:
        """Items of a list are not kept."""

    extend = append


class Unpickler(pickle.Unpickler):
    """Reads one pickle. `names`: the stand-ins that were made, by what they stand for, in the order of the file.

    Raises UnpicklingError where it is made, and any exception where it reads a damaged one; CodeError.
    """

    def __init__(self, file: IO[bytes], load_storage: LoadStorage) -> None:
        _check_numbers(file)
        super().__init__(file)
        self.names: dict[str, type[StandIn]] = {}
        self._load_storage = load_storage

    def find_class(self, module: str, name: str) -> Any:
        """What stands in the place of a name. An ordered dictionary, which has no code of anybody, is itself."""
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        path = f"{module}.{name}"
        if path == "collections.OrderedDict":
            return OrderedDict
        return self.names.setdefault(path, _make_stand_in(path))

    def list_names(self) -> tuple[str, ...]:
        """The classes and functions that were not loaded, without those that values and tensors are saved with."""
        return tuple(path for path in self.names if not path.startswith(_PLAIN) and path not in _TENSORS)

    def persistent_load(self, pid: Any) -> Any:
        """A storage, as (bytes, dtype); in the older format also a class with its source, which stays unread."""
        if pid[0] == "module":
            return pid[1]
        what, kind, key, _, count, *view = pid
        dtype = DTYPES[kind.path.rpartition(".")[2]]
        if what != "storage" or not isinstance(key, str) or not isinstance(count, int):
            raise pickle.UnpicklingError(f"a storage {pid!r}")
        return self._load_storage(dtype, key, count, view[0] if view else None), dtype


def _check_numbers(file: IO[bytes]) -> None:
    """Raises UnpicklingError for numbers that would make Python's unpickler reserve memory for as many objects, and for
    tuples that would keep it busy or overflow its stack as keys; it or ValueError for lengths beyond the file's end.
    """
    bounded, tuples = _Bounded(file), _Tuples()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(cast(IO[bytes], bounded))):
        if opcode.name in _PUTS and int(argument or 0) > count:
            raise pickle.UnpicklingError(f"it has an object of the number {argument}")
        if opcode.name == "FRAME" and int(argument or 0) > bounded.size:
            raise pickle.UnpicklingError(f"it has a frame of {argument} bytes")
        tuples.follow(opcode, argument)
    file.seek(bounded.start)


class _Tuples:
    """The stack of the unpickler, with no more of each object than how deep and how large a tuple it is."""

    def __init__(self) -> None:
        self._stack: list[tuple[int, int] | None] = []  # (depth, elements with those of its elements); None: a mark
        self._memo: dict[int, tuple[int, int] | None] = {}

    def follow(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        """Does what the opcode does to the stack. Raises UnpicklingError for a tuple beyond the limits."""
        if opcode.name in _PUTS or opcode.name == "MEMOIZE":
            at = len(self._memo) if opcode.name == "MEMOIZE" else int(argument)
            self._memo[at] = self._stack[-1] if self._stack else None
            return
        before = list(opcode.stack_before)
        taken: list[tuple[int, int]] = []
        if pickletools.markobject in before:
            while self._stack and (top := self._stack.pop()) is not None:
                taken.append(top)
            before = before[: before.index(pickletools.markobject)]
        kept = max(0, len(self._stack) - len(before))
        taken += [each for each in self._stack[kept:] if each is not None]
        del self._stack[kept:]
        made: tuple[int, int] | None = (0, 1)
        if opcode.name in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "FROZENSET"):
            made = 1 + max((depth for depth, _ in taken), default=0), 1 + sum(size for _, size in taken)
            if made[0] > _DEEPEST or made[1] > _LARGEST:
                raise pickle.UnpicklingError("it has tuples within tuples without end")
        elif opcode.name in ("GET", "BINGET", "LONG_BINGET"):
            made = self._memo.get(int(argument), made)
        elif opcode.name == "DUP":
            made = taken[0] if taken else made
        elif opcode.name == "MARK":
            made = None
        self._stack += [made] * len(opcode.stack_after)


class _Bounded:
    """A file of which no more is asked than it has: pickles say of texts that they have exabytes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.readline, self.tell = file, file.readline, file.tell
        self.start = file.tell()
        self.size = file.seek(0, os.SEEK_END)
        file.seek(self.start)

    def read(self, count: int) -> bytes:
        return self._file.read(min(count, self.size))


def _make_stand_in(path: str) -> type[StandIn]:
    facts = {"path": path, "watched": path.partition(".")[0] in _WATCHED}
    return cast(type[StandIn], _Name("StandIn", (StandIn,), facts))


def _get_attribute(holder: Any, name: str) -> type[StandIn]:
    known = _is_data(holder.path) if isinstance(holder, _Name) else isinstance(holder, StandIn) and not holder.watched
    if not known:
        raise CodeError("builtins.getattr")
    return _make_stand_in(f"{holder.path}.{name}")


def _is_data(path: str) -> bool:
    """Whether a call of `path` is how a value or an object without consequences is saved."""
    parts = path.split(".")
    within = {".".join(parts[:count]) for count in range(1, len(parts) + 1)}
    exception = parts[0] == "builtins" and path.endswith(("Error", "Exception", "Warning"))
    return parts[0] not in _WATCHED or exception or not _DATA.isdisjoint(within) or path.startswith(_REBUILD)


def _rebuild_tensor(storage: Any, offset: int, size: Any, stride: Any, *others: Any) -> Any:
    """others: whether it has a gradient, hooks, and what makes it a view of other values than are stored."""
    if len(others) > 2 and others[2]:
        return StandIn.__new__(StandIn)
    held, dtype = storage
    return held.view(dtype).as_strided(tuple(size), tuple(stride), offset)


def _rebuild_tensor_of_type(storage: Any, offset: int, size: Any, stride: Any, *others: Any) -> Any:
    return _rebuild_tensor(
        (storage[0], _DTYPES_BY_NAME[others[2].path]), offset, size, stride, *others[:2], *others[3:]
    )


def _rebuild_sparse_tensor(layout: Any, data: Any) -> Any:
    """One of the same size without values: it is refused where weights are expected."""
    return torch.empty(next(part for part in data if isinstance(part, tuple)), layout=torch.sparse_coo)


def _get_first(tensor: Any, *others: Any) -> Any:
    return tensor


def _call_first(make: Any, kind: Any, args: Any, *others: Any) -> Any:
    """A tensor of a class of its own, or with attributes; without them."""
    return make(*args)


_TENSORS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v3": _rebuild_tensor_of_type,
    "torch._utils._rebuild_sparse_tensor": _rebuild_sparse_tensor,
    "torch.Size": tuple,
    "torch._utils._rebuild_parameter": _get_first,
    "torch._utils._rebuild_parameter_with_state": _get_first,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _get_first,
    "torch._tensor._rebuild_from_type_v2": _call_first,
}
