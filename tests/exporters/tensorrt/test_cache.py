"""Engines are built once for what they are made from, and a damaged file is built again."""

import dataclasses
import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evm_deploy import caches
from evm_deploy.exporters.tensorrt import cache, engines
from evm_deploy.exporters.tensorrt.build import Engine, EngineRequest
from evm_deploy.exporters.tensorrt.layers import EngineLayer
from evm_deploy.exporters.tensorrt.shapes import Profile

TRT = SimpleNamespace(__name__="tensorrt_rtx", __version__="1.7")
SHAPE = (1, 3, 64, 64)
REQUEST = EngineRequest(b"graph", "fp16", Profile("image", SHAPE, SHAPE, SHAPE), ("8.6",), 2)
ENGINE = Engine(b"code\nof an engine\n", (EngineLayer("conv", "gemm", ("float16",), (), ("node",)),), "report", "log\n")


class Builder:
    """Stands in for `build`: counts, and leaves what it said."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.count, self.said = 0, list[str]()
        monkeypatch.setenv(caches.VARIABLE, str(folder))
        monkeypatch.setattr(engines, "build_engine", self._build)

    def _build(self, trt: Any, request: EngineRequest, failed_log: Path) -> Engine:
        self.count += 1
        return ENGINE

    def get(self, request: EngineRequest = REQUEST, trt: Any = TRT) -> Engine:
        return engines.get_engine(trt, request, self.said.append)


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Builder:
    return Builder(monkeypatch, tmp_path / "cache")


def test_an_engine_is_built_once(builder: Builder) -> None:
    assert builder.get() == ENGINE
    assert builder.get() == ENGINE
    assert builder.count == 1
    assert builder.said[-1] == "taking the engine from the cache"


@pytest.mark.parametrize(
    "changes",
    [
        {"graph": b"Graph"},
        {"precision": "fp32"},
        {"capabilities": ("8.6", "8.9")},
        {"profile": Profile("image", SHAPE, SHAPE, (4, 3, 64, 64))},
        {"plugin": True},
    ],
)
def test_another_request_is_another_engine(builder: Builder, changes: dict[str, Any]) -> None:
    builder.get()
    builder.get(dataclasses.replace(REQUEST, **changes))
    assert builder.count == 2


def test_another_version_is_another_engine(builder: Builder) -> None:
    builder.get()
    builder.get(trt=SimpleNamespace(__name__="tensorrt_rtx", __version__="1.8"))
    assert builder.count == 2


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "no hash"])
def test_a_damaged_engine_is_built_again(builder: Builder, damage: str) -> None:
    builder.get()
    path = cache.find_engine_path(TRT, REQUEST)
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes({"flip": data, "cut": data[:-9], "empty": b"", "no hash": b"\xff\n{}\n"}[damage])
    assert builder.get() == ENGINE
    assert builder.count == 2
    assert builder.get() == ENGINE  # and the damage is repaired
    assert builder.count == 2


@pytest.mark.parametrize(
    "facts", ["{}", "[]", "5", "[" * 100_000, '{"layers": 5}', '{"layers": [["a"]]}', '{"layers": [], "log": ""}']
)
def test_an_engine_with_other_facts_is_built_again(builder: Builder, facts: str) -> None:
    path = cache.find_engine_path(TRT, REQUEST)
    path.parent.mkdir(parents=True)
    rest = facts.encode() + b"\nan engine"
    path.write_bytes(hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest)
    assert builder.get() == ENGINE
    assert builder.count == 1


def test_only_the_newest_are_kept(builder: Builder) -> None:
    for i in range(cache.KEPT + 3):
        builder.get(dataclasses.replace(REQUEST, graph=bytes([i])))
    files = list(cache.find_engine_path(TRT, REQUEST).parent.iterdir())
    assert len(files) == cache.KEPT
    assert {file.suffix for file in files} == {".engine"}  # nothing half-written


def test_a_cache_that_cannot_be_written_is_mentioned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    builder = Builder(monkeypatch, tmp_path / "file")
    assert builder.get() == ENGINE
    assert "is not kept in" in builder.said[-1]


def test_the_folder_of_this_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(caches.VARIABLE, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert caches.find_cache_folder() == tmp_path / "evm-deploy"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert caches.find_cache_folder() == tmp_path / ".cache" / "evm-deploy"
    monkeypatch.setenv(caches.VARIABLE, "~/mine")
    assert caches.find_cache_folder() == tmp_path / "mine"


def test_a_user_without_a_home_has_no_cache(monkeypatch: pytest.MonkeyPatch, builder: Builder) -> None:
    for name in (caches.VARIABLE, "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)

    def know_nobody(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", know_nobody)
    assert builder.get() == ENGINE
    assert "is not kept in" in builder.said[-1]
