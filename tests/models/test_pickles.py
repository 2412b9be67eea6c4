"""Objects beside the weights: none of them is loaded, and none of them keeps the weights from being read."""

import collections
import copyreg
import dataclasses
import datetime
import enum
import functools
import itertools
import logging
import pathlib
import pickle
import re
import types
import typing
import zipfile
import zoneinfo

import numpy as np
import pytest
import torch
from torch import nn

from evm_deploy.errors import CheckpointError
from evm_deploy.models import tensor_files
from evm_deploy.models.pickles import StandIn

FORMATS = pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}], ids=["zip", "older"])


class Names(list):
    """A list with a class of its own."""


class Ordered(collections.OrderedDict):
    """A dictionary with a class of its own."""


class Colour(enum.Enum):
    RED = 1


class Slots:
    __slots__ = ("size",)

    def __init__(self):
        self.size = 3


class Outer:
    class Inner:
        def __init__(self):
            self.size = 3

    @classmethod
    def make(cls):
        raise AssertionError("nothing of the file is called")

    def grow(self):
        raise AssertionError("nothing of the file is called")


class Keywords:
    def __new__(cls, *, size):
        return object.__new__(cls)

    def __getnewargs_ex__(self):
        return (), {"size": 3}


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 3)


@dataclasses.dataclass
class Config:
    act: type = nn.GELU
    dims: tuple[int, ...] = (1, 2)


def double(value):
    raise AssertionError("nothing of the file is called")


HYPER_PARAMETERS = {
    "partial": functools.partial(double, 1, scale=2),
    "partial of a class": functools.partial(nn.LayerNorm, eps=1e-6),
    "partial of methods": [functools.partial(Outer.make), functools.partial(Outer().grow)],
    "class": nn.GELU,
    "function": double,
    "data class": Config(),
    "namespace": types.SimpleNamespace(lr=1e-3, names=["a"]),
    "list": Names(["a", "b"]),
    "dictionary": Ordered(a=1),
    "queue": collections.deque([0.1, 0.2], maxlen=20),
    "default": collections.defaultdict(list, a=[1]),
    "counter": collections.Counter("aab"),
    "enumeration": Colour.RED,
    "slots": Slots(),
    "class within a class": Outer.Inner(),
    "keywords": Keywords(size=3),
    "bytes": [b"", b"abc", bytearray(b"ab")],
    "sets": [{1}, frozenset([2]), range(3), slice(1, 2), 1j, ...],
    "types": [type(None), dict[str, int], typing.Any, np.float32],
    "numpy": [np.float64(0.5), np.arange(3), np.array([None, "a"], object), np.random.default_rng(0)],
    "times": [datetime.datetime(2024, 1, 1), datetime.timezone.utc, zoneinfo.ZoneInfo("UTC")],
    "pattern": re.compile("a+"),
    "logger": logging.getLogger("train"),
    "path": pathlib.PurePosixPath("/runs"),
    "iterators": [itertools.count(3), iter([1, 2])],
    "large number": 10**700,
    "optimizer": torch.optim.AdamW(nn.Linear(1, 1).parameters()),
    "schedule": torch.optim.lr_scheduler.StepLR(torch.optim.SGD(nn.Linear(1, 1).parameters()), 3),
    "version": torch.__version__,
    "error": ValueError("a"),
}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "weights.pth"


@FORMATS
def test_nothing_beside_the_weights_is_in_their_way(file, options):
    weights = {"a.weight": torch.randn(3, 4), "a.bias": torch.arange(3)}
    for name, value in HYPER_PARAMETERS.items():
        torch.save({"before": value, "model": weights, "after": [value, {"deep": (value,)}]}, file, **options)
        try:
            found = tensor_files.read(file).held["model"]
        except CheckpointError as error:
            raise AssertionError(name) from error
        assert all(torch.equal(found[key], tensor) for key, tensor in weights.items()), name


def test_what_was_not_loaded_is_named(file):
    torch.save({"args": HYPER_PARAMETERS["partial of a class"], "epoch": 3, "time": np.float64(1)}, file)
    assert tensor_files.read(file).not_loaded == ("functools.partial", "torch.nn.modules.normalization.LayerNorm")


@FORMATS
def test_views_dtypes_and_shared_storages(file, options):
    whole = torch.randn(6, 4)
    dtypes = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.bool, torch.cfloat)
    saved = {"whole": whole, "part": whole[1:3].t(), "empty": torch.empty(0, 3), "scalar": torch.tensor(2.5)}
    saved |= {str(dtype): torch.tensor([[1, 0, 1]]).to(dtype) for dtype in dtypes}
    saved |= {"parameter": nn.Parameter(whole), "small": torch.ones(3, dtype=torch.uint16)}
    torch.save(saved, file, **options)
    found = tensor_files.read(file).held
    for name, tensor in saved.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name
    assert found["part"].untyped_storage().data_ptr() == found["whole"].untyped_storage().data_ptr()


def test_another_protocol(file):
    torch.save({"a": torch.arange(3), "b": Config()}, file, pickle_protocol=4)
    assert torch.equal(tensor_files.read(file).held["a"], torch.arange(3))


def test_the_user_s_own_table_of_reducers_is_not_asked(file, monkeypatch):
    torch.save({"a": Slots()}, file)
    monkeypatch.setattr(copyreg, "_reconstructor", double)
    assert isinstance(tensor_files.read(file).held["a"], StandIn)


def pickled(*parts):
    """A pickle of these opcodes in the zip of torch.save."""
    return b"\x80\x02" + b"".join(parts) + b"."


# A tensor without values, which is object 1: its storage has the key "0".
EMPTY = b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
EMPTY += b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x00tQK\x00(K\x00t(K\x01t\x89}tRq\x01"


@pytest.mark.parametrize(
    "content",
    [
        pickled(b"ccollections\nOrderedDict\n", b"}", b"X\x01\x00\x00\x00aK\x01s", b"b"),  # a class is changed
        pickled(b"ctorch._utils\n_rebuild_tensor_v2\n", b"}", b"X\x01\x00\x00\x00aK\x01s", b"b"),
        pickled(b"X\x01\x00\x00\x00aQ"),  # a storage that is none
        pickled(b"ctorch._utils\n_rebuild_tensor_v2\n", b"K\x01K\x02K\x03\x87R"),
        pickled(EMPTY, b"(h\x01K\x00(J\x00\x00\x00\x01t(K\x01ttb"),  # memory is made larger
        pickled(b"b"),
        pickled(b"0"),
    ],
)
def test_pickles_that_are_made_to_harm(file, content):
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x/data.pkl", content)
        archive.writestr("x/data/0", b"")
    with pytest.raises(CheckpointError, match="cannot be read safely"):
        tensor_files.read(file)
    assert pickle.loads(pickle.dumps(collections.OrderedDict(a=1))) == {"a": 1}


def test_the_tensor_without_values_is_one(file):
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x/data.pkl", pickled(EMPTY))
        archive.writestr("x/data/0", b"")
    assert tensor_files.read(file).held.shape == (0,)


def test_a_memo_of_thousands_of_millions_is_not_made(file):
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x/data.pkl", pickled(b"}", b"r\xff\xff\xff\x7f"))
    with pytest.raises(CheckpointError, match="an object of the number 2147483647"):
        tensor_files.read(file)


@pytest.mark.parametrize("opcode", [b"\x8d", b"\x8e", b"\x96", b"\x95"], ids=["text", "bytes", "bytearray", "frame"])
def test_a_pickle_that_claims_exabytes_is_not_short_of_memory(file, opcode):
    file.write_bytes(b"\x80\x04" + opcode + (1 << 62).to_bytes(8, "little") + b"}.")
    with pytest.raises(CheckpointError, match=r"cannot be read safely: .*bytes") as refused:
        tensor_files.read(file)
    assert not isinstance(refused.value.__cause__, MemoryError)


def test_a_whole_network_is_told_from_its_parts(file):
    torch.save({"model": Network()}, file)
    assert tensor_files.read(file).held["model"].is_module
    torch.save({"model": Config()}, file)
    assert not tensor_files.read(file).held["model"].is_module


@pytest.mark.parametrize(
    "opcodes",
    [b")" + 200_000 * b"\x85", b")" + 60 * b"2\x86", b")" + b"".join(b"\x94h%c\x86" % i for i in range(60))],
    ids=["each in the next", "each twice in the next", "each twice in the next, by its number"],
)
def test_tuples_within_tuples_without_end_are_no_keys(file, opcodes):
    """Python hashes a key level by level: it would overflow the stack, or not end."""
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x/data.pkl", pickled(b"}", opcodes, b"K\x01s"))
    with pytest.raises(CheckpointError, match="tuples within tuples without end"):
        tensor_files.read(file)


def test_tuples_of_tuples_are_keys(file):
    key = tuple((i, (i, (i, i + 1))) for i in range(1000))
    torch.save({"a": {key: 1, (key, key): 2}}, file)
    assert tensor_files.read(file).held == {"a": {key: 1, (key, key): 2}}
