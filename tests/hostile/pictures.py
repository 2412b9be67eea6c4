"""Malformed images, and what names or holds them: list files, CSV, .npz, files of labels, calibration caches."""

from __future__ import annotations

import io
import random
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from cases import Case, Content, copy_bundle, damage
from PIL import Image

PREDICT = ["predict", "onnx_fp32"]


def make_cases(seeds: Path, rng: random.Random) -> list[Case]:
    image = Image.open(seeds / "images" / "red" / "0.png")
    cases = [
        Case(f"image/{name}", write(seeds, name.split()[-1], data, [*PREDICT, name.split()[-1]]))
        for name, data in list_images(image, rng)
    ]
    for name, file, data in list_lists():
        cases.append(Case(f"list/{name}", write(seeds, file, data, evaluate(file)), quick=False))
    for name, data in list_arrays(rng):
        cases.append(Case(f"npz/{name}", write(seeds, "data.npz", data, evaluate("data.npz")), quick=False))
    for name, data in list_labels():
        export = [
            "export",
            "checkpoint.safetensors",
            "--image-size",
            "32",
            "--labels",
            "names.txt",
            "--out",
            "out",
            "--no-verify",
        ]
        cases.append(Case(f"labels/{name}", write(seeds, "names.txt", data, export), quick=False))
    for cache in ("ranges.npz", "channels.npz"):
        for name, data in list_caches((seeds / "calibration" / cache).read_bytes(), rng):
            cases.append(Case(f"cache/{cache}/{name}", write_cache(seeds, cache, data), quick=False))
    return cases


def evaluate(data: str) -> list[str]:
    return ["evaluate", "onnx_fp32", "--data", data, "--latency-runs", "0"]


def write(seeds: Path, file: str, data: Content, command: list[str]) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        copy_bundle(seeds / "onnx_fp32", folder, "onnx_fp32")
        shutil.copytree(seeds / "images", folder / "images")
        shutil.copy(seeds / "checkpoint.safetensors", folder)
        (folder / file).write_bytes(data() if callable(data) else data)
        return command

    return make


def write_cache(seeds: Path, name: str, data: Content) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        copy_bundle(seeds / "onnx_fp32", folder, "onnx_fp32")
        shutil.copytree(seeds / "images", folder / "images")
        shutil.copytree(seeds / "calibration", folder / "cache")
        (folder / "cache" / name).write_bytes(data() if callable(data) else data)
        return ["quantize", "onnx_fp32", "--data", "images", "--out", "out", "--cache", "cache", "--no-verify"]

    return make


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def list_images(image: Image.Image, rng: random.Random) -> Iterator[tuple[str, Content]]:
    formats = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "bmp": "BMP", "gif": "GIF", "tif": "TIFF", "ppm": "PPM"}
    for suffix, kind in formats.items():
        good = encode(image, kind)
        for i in range(10):
            yield f"damaged {i} x.{suffix}", damage(good, rng)
        for size in (0, 1, 12, len(good) // 2, len(good) - 1):
            yield f"cut at {size} x.{suffix}", good[:size]
    for side in (2**31 - 1, 2**16, 30_000, 0):
        yield f"png of {side} x.png", make_png(side, side, b"")
        yield f"bmp of {side} x.bmp", make_bmp(side, side)
        yield f"ppm of {side} x.ppm", b"P6 %d %d 255\n" % (side, side)
        yield f"gif of {side} x.gif", b"GIF89a" + struct.pack("<HHBBB", side & 0xFFFF, side & 0xFFFF, 0, 0, 0) + b";"
    yield "63 megapixels x.png", lambda: make_png(9000, 7000, zlib.compress(bytes((9000 * 3 + 1) * 7000), 9))
    yield (
        "63 megapixels of 16 bits x.png",
        lambda: make_png(9000, 7000, zlib.compress(bytes((9000 * 6 + 1) * 7000), 9), 16),
    )
    yield "narrow x.png", encode(Image.new("RGB", (1, 60_000)), "PNG")
    yield (
        "text bomb x.png",
        make_png(1, 1, zlib.compress(b"\0\0\0\0"), more=make_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(50 << 20)))),
    )
    yield (
        "profile bomb x.png",
        make_png(1, 1, zlib.compress(b"\0\0\0\0"), more=make_chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(50 << 20)))),
    )
    yield "float x.tif", encode(Image.fromarray(np.full((40, 40), np.nan, np.float32)), "TIFF")
    yield "huge float x.tif", encode(Image.fromarray(np.full((40, 40), 1e38, np.float32)), "TIFF")
    yield "exif x.jpg", encode(image, "JPEG", exif=b"Exif\0\0MM\0\x2a\0\0\0\x08\xff\xff" + bytes(20))
    yield "svg x.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>"
    yield "postscript x.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
    yield "html x.jpg", b"<html>404</html>"
    yield "pointer x.png", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"


def make_chunk(name: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")


def make_png(width: int, height: int, data: bytes, bits: int = 8, more: bytes = b"") -> bytes:
    head = struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + make_chunk(b"IHDR", head) + more + make_chunk(b"IDAT", data) + make_chunk(b"IEND", b"")
    )


def make_bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def list_lists() -> Iterator[tuple[str, str, bytes]]:
    good = "images/red/0.png"
    lines = {
        "nothing": "",
        "comments": "# a\n\n",
        "missing": "images/red/9.png red\n",
        "outside": "../../../etc/passwd.png red\n",
        "absolute": "/etc/x.png red\n",
        "nul": "images/\0.png red\n",
        "half with classes": f"{good} red\nimages/red/1.png\n",
        "unknown class": f"{good} purple\n",
        "long": "x" * 1_000_000 + ".png red\n",
        "many": f"{good} red\n" * 20_000,
        "control characters": f"{good} \x1b[2J\n",
        "a folder": "images.png red\n",
        "quotes": f'"{good}\n',
        "number": f"{good} 99999999999999999999\n",
        "negative": f"{good} -1\n",
    }
    for name, text in lines.items():
        yield f"{name} txt", "list.txt", text.encode()
        yield f"{name} csv", "list.csv", text.replace(" ", ",").encode()
    yield "not text", "list.txt", bytes(range(256)) * 10
    yield "utf16", "list.csv", f"{good},red".encode("utf-16")
    yield "huge field", "list.csv", f'{good},"{"x" * 200_000}"\n'.encode()


def list_arrays(rng: random.Random) -> Iterator[tuple[str, Content]]:
    images = np.zeros((3, 40, 40, 3), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, images=images, labels=np.arange(3))
    good = buffer.getvalue()
    for i in range(15):
        yield f"damaged {i}", damage(good, rng)
    arrays: dict[str, dict[str, Any]] = {
        "float": {"images": images.astype(np.float32)},
        "objects": {"images": np.array([None, {}], object)},
        "grey": {"images": images[..., 0]},
        "none": {"labels": np.arange(3)},
        "no images": {"images": images[:0]},
        "empty images": {"images": images[:, :0]},
        "labels of two": {"images": images, "labels": np.arange(2)},
        "labels of floats": {"images": images, "labels": np.zeros(3)},
        "labels beyond": {"images": images, "labels": np.array([0, 1, 2**40])},
        "negative labels": {"images": images, "labels": -np.arange(3)},
        "labels of text": {"images": images, "labels": np.array(["red", "x" * 1000, "\ud800"])},
        "records": {"images": np.zeros(3, [("a", "u1")])},
    }
    for name, each in arrays.items():
        buffer = io.BytesIO()
        np.savez(buffer, **each)
        yield name, buffer.getvalue()
    for shape in (
        "(9223372036854775807,)",
        "(-1, 4, 4, 3)",
        "(1e9,)",
        "(3, 40, 40, 3), 'x': 1",
        "(" * 200,
        "(1,)*10**9",
        "()",
    ):
        header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}".encode()
        yield f"shape {shape[:20]}", pack({"images.npy": make_npy(header)})
    for descr in ("'|O'", "'<u99'", "[('a', '<f8')] * 3", "'|V1000000000'", "None", "1"):
        header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': (3, 40, 40, 3)}}".encode()
        yield f"type {descr}", pack({"images.npy": make_npy(header)})
    yield "long header", pack({"images.npy": make_npy(b" " * 60_000)})
    yield (
        "bomb",
        lambda: pack(
            {
                "images.npy": make_npy(
                    b"{'descr': '|u1', 'fortran_order': False, 'shape': (300, 1000, 1000, 3)}", bytes(900 << 20)
                )
            },
            zipfile.ZIP_DEFLATED,
        ),
    )
    yield "not an archive", b"\x93NUMPY" + good


def make_npy(header: bytes, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


def pack(files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def list_labels() -> Iterator[tuple[str, bytes]]:
    yield "none", b""
    yield "two", b"a\nb\n"
    yield "four", b"a\nb\nc\nd\n"
    yield "an empty line", b"a\n\nc\n"
    yield "not text", b"a\n\xff\xfe\nc\n"
    yield "utf16", "a\nb\nc\n".encode("utf-16")
    yield "nul", b"a\0\nb\nc\n"
    yield "control characters", b"\x1b[2J\nb\nc\n"
    yield "separators", "a\u2028b\nc\x0bd\x0c\n".encode()
    yield "long", b"a" * 3_000_000 + b"\nb\nc\n"
    yield "many", b"a\n" * 2_000_000
    yield "the same", b"a\na\na\n"


def list_caches(good: bytes, rng: random.Random) -> Iterator[tuple[str, Content]]:
    import hashlib

    magic, packed = good[: good.index(b"\n") + 1], good[good.index(b"\n") + 33 :]
    head, arrays = zlib.decompress(packed).split(b"\n", 1)

    def join(content: bytes) -> bytes:
        again = zlib.compress(content, 1)
        return magic + hashlib.sha256(again).digest() + again

    def join_members(field: str, value: Any) -> bytes:
        buffer = io.BytesIO()
        np.save(buffer, value)
        changed = {name: buffer.getvalue() if name.endswith(f" {field}") else data for name, data in members.items()}
        return join(head + b"\n" + pack(changed))

    for i in range(4):
        yield f"damaged {i}", damage(good, rng)
        yield f"head damaged {i}", join(damage(head, rng) + b"\n" + arrays)
        yield f"arrays damaged {i}", join(head + b"\n" + damage(arrays, rng))
    yield "bomb", lambda: join(head + b"\n" + bytes(1500 << 20))
    yield "deep", join(b"[" * 100_000 + b"\n" + arrays)
    yield "negative", join(head.replace(b'"done": ', b'"done": -') + b"\n" + arrays)
    yield "far", join(head.replace(b'"done": ', b'"done": 999999') + b"\n" + arrays)
    yield "a list", join(b"[]\n" + arrays)
    yield "names of numbers", join(head.replace(b'"names": ["', b'"names": [1, "') + b"\n" + arrays)
    yield "no arrays", join(head)
    with zipfile.ZipFile(io.BytesIO(arrays)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for field in sorted({name.split(" ", 1)[1] for name in members}):
        for i, value in enumerate(
            (np.zeros(0), np.array("x"), np.zeros((3, 3)), np.full(7, np.nan), np.array(-(2**40)))
        ):
            yield f"{field[:-4]} {i}", partial(join_members, field, value)
