"""Documents that nobody vouches for: of the right kind, or refused before they fill the memory."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from evm_deploy.bundle import Bundle
from evm_deploy.errors import BundleError, InputError
from evm_deploy.jsontext import MOST_CONTAINERS, MOST_NAMES, MOST_VALUES, dumps, read_object
from evm_deploy.manifest import Manifest

BOMBS = {
    "objects for nobody": b'"x":[' + b",".join([b"{}"] * MOST_CONTAINERS) + b"]",
    "more objects than there may be": b'"x":[' + b",".join([b"{}"] * 3_000_000) + b"]",
    "objects in the place of results": b'"NAME":[' + b",".join([b"{}"] * (MOST_CONTAINERS - 9)) + b"]",
    "numbers in the place of results": b'"NAME":[' + b",".join([b"1"] * (MOST_VALUES - 9)) + b"]",
    "names for nobody": b",".join(b'"k%d":1' % i for i in range(400_000)),
    "depth": b'"NAME":' + b"[" * (MOST_CONTAINERS // 2) + b"]" * (MOST_CONTAINERS // 2),
}
# The beginning of a document of each kind, and a list in it.
KINDS = {
    "evm_deploy.profiling.report.ProfileReport": (b'{"schema":"evm-deploy/profile","version":1,', b"results"),
    "evm_deploy.packaging.index.Index": (b'{"schema_version":1,', b"bundles"),
    "evm_deploy.manifest.Manifest": (b'{"schema_version":1,', b"outputs"),
}
READ = """
import importlib, re, sys
from pathlib import Path
from evm_deploy.errors import InputError
module, _, name = sys.argv[1].rpartition(".")
try:
    getattr(importlib.import_module(module), name).from_json(sys.stdin.buffer.read())
except InputError as error:
    print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1], len(str(error)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="nothing tells how much memory this program alone took")
@pytest.mark.parametrize(
    ("kind", "bomb"),
    [
        *((next(iter(KINDS)), bomb) for bomb in BOMBS),
        *((kind, "objects in the place of results") for kind in list(KINDS)[1:]),
    ],
)
def test_no_document_takes_a_gigabyte(kind: str, bomb: str) -> None:
    head, name = KINDS[kind]
    text = head + BOMBS[bomb].replace(b"NAME", name) + b"}"
    done = subprocess.run([sys.executable, "-c", READ, kind], input=text, capture_output=True, check=True, timeout=120)
    kilobytes, length = map(int, done.stdout.split())
    assert kilobytes < (1 << 20)
    assert length < 1000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"[" * 100_000, "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b"", "not a JSON object"),
        (b"{" + b",".join(b'"%d":1' % i for i in range(MOST_NAMES + 1)) + b"}", "not a JSON object"),
        (b'{"x":[' + b"[]," * MOST_CONTAINERS + b"[]]}", "more than 300000 objects and lists"),
        (b'{"x":[' + b"1," * MOST_VALUES + b"1,1]}", "2000000 values"),
    ],
)
def test_what_is_no_object_of_a_bounded_size(text: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_object(text, "the file", InputError, "use another.")


def test_what_is_within_the_bounds() -> None:
    value = {"x": list(range(10_000)), "y": {str(i): [] for i in range(MOST_NAMES)}}
    assert read_object(json.dumps(value).encode(), "the file", InputError, "use another.") == value


def test_the_first_fault_in_a_list_is_named(manifest: Manifest, make_bundle: Callable[..., Bundle]) -> None:
    changed = json.loads(manifest.to_json())
    changed["outputs"] = [changed["outputs"][0], {"name": 1}, {"name": 2}]
    with pytest.raises(BundleError, match=r"outputs\.1\.name"):
        Manifest.from_json(json.dumps(changed).encode())


@pytest.mark.skipif(sys.platform == "win32", reason="names are no bytes there")
def test_what_is_written_of_any_name_can_be_read() -> None:
    names = [os.fsdecode(b"caf\xe9.png"), os.fsdecode(b"caf\xe8.png"), "caf\u00e9.png", "\ud800"]
    text = dumps({"names": names, "paths": [Path(name) for name in names[:3]], names[0]: 1})
    found = read_object(text.encode(), "it", InputError, "fix")
    assert found["names"] == ["caf%E9.png", "caf%E8.png", "caf\u00e9.png", "\ufffd"]
    assert found["paths"] == found["names"][:3]
    assert found["caf%E9.png"] == 1
    json.dumps(found, ensure_ascii=False).encode()
