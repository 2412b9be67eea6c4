"""What the cases share: their type, and how a valid file is made a malformed one."""

from __future__ import annotations

import copy
import hashlib
import json
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Place = tuple[Any, ...]
Content = bytes | Callable[[], bytes]  # of a file; called for what is made only when it is needed

# What stands in the place of a value of JSON: other types, and values at and beyond every edge.
VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    2**31,
    2**64,
    -(2**70),
    1e308,
    float("nan"),
    "",
    "x",
    "../../etc/passwd",
    "/dev/zero",
    "a\0b",
    "\ud800",
    "\x1b[2J",
    "x" * 100_000,
    [],
    [[]],
    {},
    {"x": None},
    [0] * 5000,
    [None, "x", -1],
)


@dataclass(frozen=True)
class Case:
    """`make` writes the malformed files into an empty folder, and returns the command line that is run there."""

    name: str
    make: Callable[[Path], list[str]]
    quick: bool = True  # less than about a second


def list_places(value: Any, above: Place = ()) -> Iterator[Place]:
    """The place of every value in a document, the document itself left out."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*above, key)
        yield from list_places(item, (*above, key))


def replace(document: Any, place: Place, value: Any) -> Any:
    """A copy of the document with another value at this place."""
    changed = copy.deepcopy(document)
    find_holder(changed, place)[place[-1]] = value
    return changed


def remove(document: Any, place: Place) -> Any:
    changed = copy.deepcopy(document)
    del find_holder(changed, place)[place[-1]]
    return changed


def find_holder(document: Any, place: Place) -> Any:
    for key in place[:-1]:
        document = document[key]
    return document


def damage(data: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, or a part left out, doubled, or moved."""
    changed = bytearray(data)
    start = rng.randrange(len(data))
    end = min(len(data), start + rng.choice((1, 2, 8, 100, 4000)))
    kind = rng.randrange(5)
    if kind == 0:
        for _ in range(rng.choice((1, 3, 30))):
            changed[rng.randrange(len(data))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    elif kind == 1:
        del changed[start:end]
    elif kind == 2:
        changed[start:start] = changed[start:end]
    elif kind == 3:
        changed[start:end] = bytes(end - start)
    else:
        del changed[start:]
    return bytes(changed)


def damage_text(text: bytes) -> dict[str, bytes]:
    """A document of JSON as no writer writes it."""
    return {
        "empty": b"",
        "cut": text[: len(text) // 2],
        "bom": b"\xef\xbb\xbf" + text,
        "utf16": text.decode().encode("utf-16"),
        "nul": text.replace(b"\n", b"\0"),
        "latin": text.replace(b"a", b"\xe4"),
        "twice": text + text,
        "list": b"[" + text + b"]",
        "deep": b"[" * 100_000,
        "deep object": b'{"x":' * 50_000 + b"1" + b"}" * 50_000,
        "many objects": b'{"x":[' + b"{}," * 300_000 + b"{}]}",
        "many names": b"{" + b",".join(b'"%d":0' % i for i in range(100_000)) + b"}",
        "many numbers": b'{"x":[' + b"0," * 500_000 + b"0]}",
        "long number": b'{"schema_version":' + b"9" * 100_000 + b"}",
        "infinity": text.replace(b": 1", b": 1e999", 1),
        "duplicate": text.rstrip().removesuffix(b"}") + b',"schema_version":1,"schema_version":2}',
    }


def copy_bundle(source: Path, folder: Path, name: str = "bundle") -> Path:
    shutil.copytree(source, folder / name)
    return folder / name


def seal(bundle: Path) -> None:
    """Has the manifest give the hashes that the files have now, so that a reader gets beyond them."""
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"] = {name: hash_file(bundle / name) for name in manifest["files"] if (bundle / name).is_file()}
    path.write_text(json.dumps(manifest))


def hash_file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
