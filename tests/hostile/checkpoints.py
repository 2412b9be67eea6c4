"""Malformed checkpoints, of every format: cut, with wrong lengths, shapes and types, nested, and expanding."""

from __future__ import annotations

import io
import json
import pickle
import random
import warnings
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from cases import Case, Content, copy_bundle, damage, list_places, remove, replace
from safetensors.torch import load_file

NAME = {"safetensors": "net.safetensors", "zip": "net.pth", "legacy": "old.pth", "pickle": "net.pth"}
WRONG: tuple[Any, ...] = (None, True, -1, 2**31, 2**63, 2**64, 1e9, "F32", "F4", "BOOL", "x" * 10_000, [], [0] * 5000)
SHAPES: tuple[Any, ...] = ([2**40], [2**32, 2**32], [0], [-1], [2**63], [1] * 200, [], [0, 2**62], [1.5], ["1"])


def make_cases(seeds: Path, rng: random.Random) -> list[Case]:
    tensors = load_file(seeds / "checkpoint.safetensors")
    formats = {
        "safetensors": (seeds / "checkpoint.safetensors").read_bytes(),
        "zip": save(tensors),
        "legacy": save(tensors, zipped=False),
    }
    made = {
        "safetensors": dict(break_safetensors(formats["safetensors"], rng)),
        "zip": dict(break_zip(formats["zip"], rng)),
        "pickle": {f"{name} {i}": data for i, (name, data) in enumerate(break_pickle(formats["zip"]))},
        "legacy": dict(break_legacy(formats["legacy"], rng)),
    }
    for name, content in break_content(tensors):
        made["zip"][f"content {name}"] = save(content)
    for kind, data in formats.items():
        made[kind] |= {f"damaged {i}": damage(data, rng) for i in range(25)}
    return [
        Case(f"checkpoint/{kind}/{name}", write(seeds, NAME[kind], data, index), quick=index % 8 < 6)
        for kind, several in made.items()
        for index, (name, data) in enumerate(several.items())
    ]


def write(seeds: Path, file: str, data: Content, index: int) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        (folder / file).write_bytes(data() if callable(data) else data)
        if index % 8 < 6:
            return ["inspect", file]
        if index % 8 == 6:
            return ["export", file, "--out", "out", "--image-size", "32", "--no-verify"]
        copy_bundle(seeds / "onnx_fp32", folder)
        return ["verify", "bundle", "--checkpoint", file]

    return make


def save(content: Any, zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def join(header: Any, data: bytes, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def break_safetensors(good: bytes, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    size = int.from_bytes(good[:8], "little")
    header, data = json.loads(good[8 : 8 + size]), good[8 + size :]
    names = [name for name in header if name != "__metadata__"]
    ends = sorted({header[name]["data_offsets"][1] for name in names})
    for end in (-size, -1, 0, *rng.sample(ends, 12)):
        yield f"cut at {end}", good[: 8 + size + end]
        yield f"cut before {end}", good[: 8 + size + end - 1]
    for length in (0, 1, size - 1, size + 1, len(good), 2**31, 2**63, 2**64 - 1):
        yield f"header of {length}", join(good[8 : 8 + size], data, length)
    first = rng.choice(names)
    for place in [place for place in list_places(header[first]) if len(place) == 1] + [("data_offsets", 0)]:
        for i, value in enumerate(WRONG + (SHAPES if place == ("shape",) else ())):
            yield f"{place[-1]} {i}", join(replace(header, (first, *place), value), data)
        yield f"no {place[-1]}", join(remove(header, (first, *place)), data)
    text = json.dumps(header).encode()
    again = b'{"%b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},' % first.encode()
    yield "duplicate", join(again + text[1:], data)
    yield "deep", join(b'{"a":' * 50_000 + b"1" + b"}" * 50_000, data)
    yield "spaces", join(text + b" " * (20 << 20), data)
    yield "metadata", join({"__metadata__": {"a": [1]}, **header}, data)
    yield (
        "many names",
        join({f"n{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(50_000)}, b""),
    )
    yield (
        "overlap",
        join({name: {**header[first], "data_offsets": header[first]["data_offsets"]} for name in names}, data),
    )


def break_zip(good: bytes, rng: random.Random) -> Iterator[tuple[str, Content]]:
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        records = [(info.filename, archive.read(info)) for info in archive.infolist()]
        offsets = [info.header_offset for info in archive.infolist()]
    for offset in rng.sample(offsets, 8):
        yield f"cut at {offset}", good[:offset]
    for kind, method in (("deflated", zipfile.ZIP_DEFLATED), ("lzma", zipfile.ZIP_LZMA), ("bzip2", zipfile.ZIP_BZIP2)):
        yield kind, pack(records, method)
    yield "bomb", lambda: pack([*records, ("archive/data/zeros", bytes(300 << 20))], zipfile.ZIP_DEFLATED)
    yield "twice", pack([*records, records[0]])
    yield "two pickles", pack([*records, ("other/data.pkl", records[0][1])])
    yield "no pickle", pack(records[1:])
    yield "empty", pack([])
    yield "traversal", pack([("../" + name, data) for name, data in records])
    yield "many", pack([*records, *((f"archive/x{i}", b"") for i in range(20_000))])
    yield "short tensors", pack([(name, data if name.endswith(".pkl") else data[:4]) for name, data in records])
    yield "long tensors", pack([(name, data if name.endswith(".pkl") else data * 3) for name, data in records])
    yield "byteorder", pack([(name, b"big" if name.endswith("byteorder") else data) for name, data in records])
    end = good.rindex(b"PK\x05\x06")
    for at, width in ((8, 2), (10, 2), (12, 4), (16, 4), (20, 2)):
        for value in (b"\xff" * width, bytes(width)):
            yield f"directory {at} {value.hex()}", good[: end + at] + value + good[end + at + width :]


def pack(records: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in records:
            entry = zipfile.ZipInfo(name)
            entry.compress_type = method
            with warnings.catch_warnings(action="ignore"):  # of names that are there twice
                archive.writestr(entry, data)
    return buffer.getvalue()


def break_pickle(good: bytes) -> Iterator[tuple[str, bytes]]:
    """Other pickles in the place of the one of a good file."""
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        records = [(info.filename, archive.read(info)) for info in archive.infolist()]
    for name, text in list_pickles():
        yield name, pack([(file, text if file.endswith("data.pkl") else data) for file, data in records])
        if len(text) < 1 << 20:
            yield f"{name}, not zipped", text


def list_pickles() -> Iterator[tuple[str, bytes]]:
    proto, stop = b"\x80\x02", b"."
    yield "nothing", b""
    yield "no end", proto + b"}"
    yield "empty stack", proto + stop
    yield "deep lists", proto + b"]" * 100_000 + b"a" * 99_999 + stop
    yield "deep tuples", proto + b")" + b"\x85" * 100_000 + stop
    yield "deep dicts", proto + b"}" * 50_000 + b"K\x01" * 0 + stop
    yield "cycle", proto + b"]q\x00h\x00a" + stop
    yield "cycle of a dict", proto + b"}q\x00U\x01ah\x00s" + stop
    yield "unhashable key", proto + b"}]K\x01s" + stop
    yield "huge text", proto + b"X\xff\xff\xff\x7fabc" + stop
    yield "huger text", b"\x80\x04" + b"\x8d" + (2**62).to_bytes(8, "little") + b"abc" + stop
    yield "huge bytes", b"\x80\x04" + b"\x8e" + (2**62).to_bytes(8, "little") + b"abc" + stop
    yield "huge bytearray", b"\x80\x05" + b"\x96" + (2**33).to_bytes(8, "little") + b"abc" + stop
    yield "huge integer", proto + b"\x8b\xff\xff\xff\x7f\x01" + stop
    yield "long integer", proto + b"\x8b" + (1 << 20).to_bytes(4, "little") + b"\x7f" * (1 << 20) + stop
    yield "digits", b"I" + b"9" * 100_000 + b"\n" + stop
    yield "huge frame", b"\x80\x04\x95" + (2**62).to_bytes(8, "little") + b"}" + stop
    yield "huge memo", proto + b"}r\xff\xff\xff\xff" + stop
    yield "unknown memo", proto + b"h\x05" + stop
    yield "unknown opcode", proto + b"\xff" + stop
    yield "protocol 200", b"\x80\xc8}" + stop
    yield "doubling", proto + b"]" + b"q\x00]h\x00ah\x00a" * 1 + doubling(60) + stop
    yield "repeated text", proto + b"(" + b"X\x10\x00\x00\x00" + b"a" * 16 + b"2" * 500_000 + b"t" + stop
    for call in (
        "os\nsystem",
        "builtins\neval",
        "posix\nsystem",
        "nt\nsystem",
        "torch\nload",
        "collections\nOrderedDict",
    ):
        yield f"call of {call.replace(chr(10), '.')}", proto + b"c" + call.encode() + b"\n(U\x04truetR" + stop
    yield "range", proto + b"cbuiltins\nrange\n(K\x00\x8a\x08" + b"\x7f" * 8 + b"tR" + stop
    yield "bytearray", proto + b"cbuiltins\nbytearray\n(\x8a\x06" + b"\x7f" * 6 + b"tR" + stop
    yield "complex", proto + b"cbuiltins\ncomplex\n(U\x01xtR" + stop
    yield "counter", proto + b"ccollections\nCounter\n(U\x01xtR" + stop
    yield "build", proto + b"ccollections\nOrderedDict\n)R}U\x05itemsNsb" + stop
    yield "not latin", proto + b"c\xff\xfe\n\xff\n)R" + stop
    yield "no name", proto + b"c\n\n)R" + stop
    yield "extension", proto + b"\x82\x01" + stop
    yield "persistent", proto + b"U\x01xQ" + stop
    yield (
        "persistent nonsense",
        proto + b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpu\x8a\x08" + b"\x7f" * 8 + b"tQ" + stop,
    )
    for size, stride in (
        ((2**40,), (0,)),
        ((2**31, 2**31), (0, 0)),
        ((2**62, 4), (1, 1)),
        ((-1,), (1,)),
        ((10**6,), (10**6,)),
    ):
        yield f"view {size} {stride}", rebuild(size, stride)
    yield "view by texts", rebuild(("a",), ("b",))
    yield "view beyond", rebuild((4,), (1,), 2**40)
    yield "view before", rebuild((4,), (1,), -8)


def doubling(times: int) -> bytes:
    """A list that holds the one before it twice, so many times."""
    return b"".join(b"q%c]h%ch%c\x86a" % (i % 250 + 1, i % 250 + 1, i % 250 + 1) for i in range(times))


def rebuild(size: tuple[Any, ...], stride: tuple[Any, ...], offset: int = 0) -> bytes:
    """The pickle of a tensor over the first storage of the file, of another shape than its storage has room for."""

    class Storage:
        pass

    class Pickler(pickle._Pickler):  # type: ignore[misc, name-defined]  # of Python: its persistent ids may be anything
        def persistent_id(self, value: Any) -> Any:
            return ("storage", torch.FloatStorage, "0", "cpu", 10) if isinstance(value, Storage) else None

    class Tensor:
        def __reduce__(self) -> Any:
            return torch._utils._rebuild_tensor_v2, (Storage(), offset, size, stride, False, OrderedDict())

    buffer = io.BytesIO()
    Pickler(buffer, 2).dump({"patch_embed.proj.weight": Tensor()})
    return buffer.getvalue()


def break_legacy(good: bytes, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    for share in (0.001, 0.01, 0.1, 0.5, 0.9, 0.999):
        yield f"cut at {share}", good[: int(len(good) * share)]
    yield "magic alone", pickle.dumps(0x1950A86A20F9469CFC6C, 2)
    yield "other magic", pickle.dumps(1, 2) + good[20:]
    yield "compressed", zlib.compress(good)
    yield "many pickles", pickle.dumps({}, 2) * 1000
    yield "tail", good + bytes(1000)


def break_content(tensors: dict[str, torch.Tensor]) -> Iterator[tuple[str, Any]]:
    """What torch.save writes, and no training script would."""
    first, like = next(each for each in tensors.items() if each[1].is_floating_point())
    changed: dict[str, Any] = {
        "float16": like.half(),
        "float64": like.double(),
        "integers": like.to(torch.int8),
        "booleans": like > 0,
        "complex": like.to(torch.complex64),
        "nan": like * float("nan"),
        "infinite": like + float("inf"),
        "sparse": like.to_sparse(),
        "expanded": torch.zeros(1).expand(1 << 40),
        "empty": torch.zeros(0),
        "scalar": torch.tensor(1.0),
        "many dimensions": torch.zeros([1] * 40),
        "meta": torch.zeros(3, device="meta"),
        "text": "weights",
        "list": [like] * 3,
        "none": None,
    }
    for name, value in changed.items():
        yield name, {**tensors, first: value}
    yield "all expanded", {name: torch.zeros([]).expand(tensor.shape) for name, tensor in tensors.items()}
    yield "names of numbers", dict(enumerate(tensors.values()))
    yield "names of tuples", {("a", name): tensor for name, tensor in tensors.items()}
    yield "long names", {name * 1000: tensor for name, tensor in tensors.items()}
    yield "control characters", {"\x1b[2J\n" + name: tensor for name, tensor in tensors.items()}
    yield "a tensor", like
    yield "a list", list(tensors.values())
    yield "containers of containers", {"model": {"model": {"model": tensors}}}
    yield "many containers", {f"model{i}": {**tensors, first: like + i} for i in range(60)}
    deep: Any = tensors
    for _ in range(400):
        deep = {"state_dict": deep}
    yield "deep containers", deep
    cyclic: dict[str, Any] = dict(tensors)
    cyclic["self"] = cyclic
    yield "a cycle", cyclic
    yield (
        "records",
        {"state_dict": tensors, "epoch": float("nan"), "best_acc": 10**400, "step": -(2**70), "x" * 10**5: 1},
    )
    for stem in ("norm", "num_classes"):
        yield f"no {stem}", {name: tensor for name, tensor in tensors.items() if stem not in name}
    yield (
        "huge head",
        {
            name: torch.zeros(1).expand(2**34, *tensor.shape[1:]) if "head" in name else tensor
            for name, tensor in tensors.items()
        },
    )
