"""Where onnxruntime-web comes from."""

import base64
import gzip
import hashlib
import io
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evm_deploy.errors import InputError, MissingToolError
from evm_deploy.web import runtime

DATA = {"ort.wasm.min.mjs": b"module", "ort.wasm": b"engine"}


def packed(files: dict[str, bytes]) -> bytes:
    """A package as npm has them, with a member beside it that leads out of any folder."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="w", mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as archive:
        for name, data in {
            "../../evil": b"x",
            **{f"package/dist/{name}": data for name, data in files.items()},
        }.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A small package instead of the real one, and an empty cache."""
    monkeypatch.setattr(runtime, "FILES", {name: hashlib.sha256(data).hexdigest() for name, data in DATA.items()})
    monkeypatch.delenv(runtime.VARIABLE, raising=False)
    monkeypatch.setenv("EVM_DEPLOY_CACHE", str(tmp_path / "cache"))
    trust(monkeypatch, packed(DATA))
    return tmp_path / "cache"


def trust(monkeypatch: pytest.MonkeyPatch, package: bytes) -> None:
    monkeypatch.setattr(runtime, "INTEGRITY", base64.b64encode(hashlib.sha512(package).digest()).decode())


@pytest.fixture
def npm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[bytes], list[Any]]:
    """`npm(package)`: from now on it fetches these bytes; returns the list of its calls."""

    def install(package: bytes, code: int = 0) -> list[Any]:
        calls: list[Any] = []

        def run(command: list[str], cwd: str, **_: Any) -> subprocess.CompletedProcess[str]:
            calls.append(command)
            if not code:
                Path(cwd, "onnxruntime-web.tgz").write_bytes(package)
            return subprocess.CompletedProcess(command, code, "", "npm error network\nnpm error ENOTFOUND")

        monkeypatch.setattr(runtime.shutil, "which", lambda name: name)
        monkeypatch.setattr(runtime.subprocess, "run", run)
        return calls

    return install


def contents(files: dict[str, Path]) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in files.items()}


def test_it_is_fetched_once(cache: Path, npm: Any, tmp_path: Path) -> None:
    calls = npm(packed(DATA))
    assert contents(runtime.fetch_files()) == contents(runtime.fetch_files()) == DATA
    assert len(calls) == 1
    assert calls[0][-1] == f"onnxruntime-web@{runtime.VERSION}"
    assert "--ignore-scripts" in calls[0]
    assert not list(tmp_path.rglob("*evil*"))
    assert not list(cache.rglob("*.partial"))


def test_a_damaged_cache_is_fetched_again(cache: Path, npm: Any) -> None:
    calls = npm(packed(DATA))
    next(iter(runtime.fetch_files().values())).write_bytes(b"damaged")
    assert contents(runtime.fetch_files()) == DATA
    assert len(calls) == 2


def test_another_package_is_refused_and_nothing_is_kept(cache: Path, npm: Any) -> None:
    npm(packed({**DATA, "ort.wasm": b"another"}))
    with pytest.raises(MissingToolError, match="sha512"):
        runtime.fetch_files()
    assert not cache.exists()


def test_npm_that_fails_is_told(cache: Path, npm: Any) -> None:
    npm(b"", code=1)
    with pytest.raises(MissingToolError, match="ENOTFOUND") as error:
        runtime.fetch_files()
    assert runtime.VARIABLE in error.value.fix


def test_without_npm(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.shutil, "which", lambda name: None)
    with pytest.raises(MissingToolError, match="is not installed either"):
        runtime.fetch_files()


@pytest.mark.parametrize("below", ["", "dist", "node_modules/onnxruntime-web/dist"])
def test_a_folder_may_be_named_instead(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, below: str
) -> None:
    folder = tmp_path / "given" / below
    folder.mkdir(parents=True)
    for name, data in DATA.items():
        (folder / name).write_bytes(data)
    monkeypatch.setenv(runtime.VARIABLE, str(tmp_path / "given"))
    assert contents(runtime.fetch_files()) == DATA
    (folder / "ort.wasm").write_bytes(b"of another version")
    with pytest.raises(InputError, match="does not hold"):
        runtime.fetch_files()


def test_a_packed_file_may_be_named_instead(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "package.tgz").write_bytes(packed(DATA))
    monkeypatch.setenv(runtime.VARIABLE, str(tmp_path / "package.tgz"))
    assert contents(runtime.fetch_files()) == DATA


def test_another_packed_file_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "package.tgz").write_bytes(packed({}))
    monkeypatch.setenv(runtime.VARIABLE, str(tmp_path / "package.tgz"))
    with pytest.raises(InputError, match="sha512"):
        runtime.fetch_files()


@pytest.mark.skipif(os.name == "nt", reason="another way to say it there")
def test_a_cache_that_cannot_be_written(cache: Path, npm: Any) -> None:
    npm(packed(DATA))
    cache.write_text("a file, where the folder should be")
    with pytest.raises(MissingToolError, match="cannot be written"):
        runtime.fetch_files()
