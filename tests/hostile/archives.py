"""Malformed archives of packages: files that lead outside, doubled, linked, expanding, or other than the index says."""

from __future__ import annotations

import hashlib
import io
import json
import random
import stat
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cases import Case, Content, damage

TOP = "EfficientVMamba"
Files = dict[str, bytes]


def make_cases(seeds: Path, rng: random.Random) -> list[Case]:
    good = (seeds / "packages" / "ios.zip").read_bytes()
    made = dict(list_archives(good))
    made |= {f"damaged {i}": damage(good, rng) for i in range(25)}
    made |= {f"cut at {share}": good[: int(len(good) * share)] for share in (0.0, 0.001, 0.5, 0.99, 0.9999)}
    end = good.rindex(b"PK\x05\x06")
    for at in (8, 10, 12, 16):
        made[f"directory {at}"] = (
            good[: end + at] + b"\xff\xff\xff\x7f"[: 2 + 2 * (at > 11)] + good[end + at + 2 + 2 * (at > 11) :]
        )
    return [Case(f"archive/{name}", write(data)) for name, data in made.items()]


def write(data: Content) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        (folder / "package.zip").write_bytes(data() if callable(data) else data)
        return ["verify", "package.zip"]

    return make


def pack(files: Any, method: int = zipfile.ZIP_STORED, mode: int = 0o644) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in files.items() if isinstance(files, dict) else files:
            entry = zipfile.ZipInfo(name)
            entry.compress_type, entry.external_attr = method, mode << 16
            with warnings.catch_warnings(action="ignore"):  # of names that are there twice
                archive.writestr(entry, data)
    return buffer.getvalue()


def index(files: Files, changes: dict[str, Any] | None = None) -> Files:
    """The files with the index changed so that it lists all of them."""
    document = json.loads(files[f"{TOP}/evm-package.json"])
    document["files"] = {
        name.removeprefix(f"{TOP}/"): {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        for name, data in files.items()
        if not name.endswith("evm-package.json")
    }
    document |= changes or {}
    return {**files, f"{TOP}/evm-package.json": json.dumps(document).encode()}


def list_archives(good: bytes) -> Iterator[tuple[str, Content]]:
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        files = {info.filename: archive.read(info) for info in archive.infolist()}
    name = f"{TOP}/README.md"
    for bad in (
        "../x",
        "/x",
        "C:/x",
        "a/../../x",
        "a\\..\\x",
        "a\0b",
        "con",
        ".",
        "a//b",
        "x/",
        "\u202e",
        "a" * 300,
        "d/" * 500 + "x",
    ):
        yield f"adds {bad[:20]!r}", pack({**files, f"{TOP}/{bad}": b"x"})
        yield f"lists {bad[:20]!r}", pack(index({**files, f"{TOP}/{bad}": b"x"}))
    yield "outside the top", pack({**files, "other/x": b"x"})
    yield "doubled", pack([*files.items(), (name, b"x")])
    yield "doubled index", pack([*files.items(), (f"{TOP}/evm-package.json", b"{}")])
    yield "two tops", pack({**files, "other/evm-package.json": files[f"{TOP}/evm-package.json"]})
    yield "no index", pack({each: data for each, data in files.items() if "evm-package" not in each})
    yield "nothing", pack({})
    yield "case", pack(index({**files, f"{TOP}/readme.md": b"x"}))
    yield "file and folder", pack(index({**files, f"{TOP}/README.md/x": b"x"}))
    yield "links", pack({**files, f"{TOP}/x": b"/etc/passwd"}, mode=stat.S_IFLNK | 0o777)
    yield "devices", pack(files, mode=stat.S_IFCHR | 0o666)
    yield "setuid", pack(files, mode=0o4777)
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        yield f"method {method}", pack(files, method)
    yield "bomb", lambda: pack({**files, f"{TOP}/x": bytes(300 << 20)}, zipfile.ZIP_DEFLATED)
    yield "listed bomb", lambda: pack(index({**files, f"{TOP}/x": bytes(300 << 20)}), zipfile.ZIP_DEFLATED)
    yield (
        "bomb of an index",
        lambda: pack({**files, f"{TOP}/evm-package.json": b" " * (64 << 20)}, zipfile.ZIP_DEFLATED),
    )
    yield "index of one value", pack({**files, f"{TOP}/evm-package.json": b"[" * (1 << 20)}, zipfile.ZIP_DEFLATED)
    yield "many files", lambda: pack({**files, **{f"{TOP}/{i}": b"" for i in range(20_000)}})
    yield "many listed files", lambda: pack(index({**files, **{f"{TOP}/{i}": b"" for i in range(20_000)}}))
    yield "no models", pack(index(files, {"models": {}}))
    yield "encrypted", good.replace(b"PK\x01\x02\x14\x03\x2d\x00\x00\x00", b"PK\x01\x02\x14\x03\x2d\x00\x01\x00")
    (model,) = json.loads(files[f"{TOP}/evm-package.json"])["models"].items()
    for i, change in enumerate(("folder", "target", "precision", "manifest_sha256", "bytes")):
        for j, value in enumerate((None, "..", "", "x", 2**70, [])):
            yield f"model {i} {j}", pack(index(files, {"models": {model[0]: {**model[1], change: value}}}))
    yield "model twice", pack(index(files, {"models": {model[0]: model[1], "other": model[1]}}))
    yield "unsigned signature", pack({**files, f"{TOP}/evm-package.json.minisig": b"x"})
    sizes = json.loads(files[f"{TOP}/evm-package.json"])["files"]
    for i, size in enumerate((0, -1, 2**70, None, 2**34)):
        changed = {each: {**record, "bytes": size} for each, record in sizes.items()}
        document = {**json.loads(files[f"{TOP}/evm-package.json"]), "files": changed}
        yield f"sizes {i}", pack({**files, f"{TOP}/evm-package.json": json.dumps(document).encode()})
