"""Verification of packages: a changed, missing, additional or redirected byte anywhere is found."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import evm_deploy
from evm_deploy.bundle import Bundle
from evm_deploy.errors import BundleError, CheckFailed, EvmDeployError, OptionError
from evm_deploy.inspection import inspect
from evm_deploy.packaging.package import Package
from evm_deploy.packaging.verify import is_package, open_only_model, open_package, verify

Maker = Callable[..., Package]


@pytest.fixture
def made(pack: Maker, tmp_path: Path) -> Package:
    return pack(tmp_path / "out", archive=True)


def rewritten(source: Path, out: Path, change: Callable[[str, bytes], bytes | None], more: dict[str, bytes]) -> Path:
    """The archive with entries changed, left out where `change` gives None, and added."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            data = change(name, old.read(name))
            if data is not None:
                new.writestr(name, data)
        for name, data in more.items():
            new.writestr(name, data)
    return out


def test_what_was_written_is_whole(made: Package, tmp_path: Path) -> None:
    assert made.archive
    for path in (made.path, made.archive):
        found = verify(path)
        assert found.models == ("small",)
        assert found.signature == "none"
        assert found.files == len(made.index.files)
    with open_package(made.archive) as (_, models):
        assert models[0].bundle.labels() == ("cat", "dog", "eel")


def test_a_changed_byte_in_any_file(made: Package) -> None:
    for name in made.index.files:
        path = made.path / name
        good = path.read_bytes()
        path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        with pytest.raises(CheckFailed, match="sha256"):
            verify(made.path)
        path.write_bytes(good)
    assert verify(made.path)


def test_missing_additional_and_linked_files(made: Package, tmp_path: Path) -> None:
    extra = made.path / "src/extra.cpp"
    extra.write_text("")
    with pytest.raises(CheckFailed, match=r"extra\.cpp, which is not part"):
        verify(made.path)
    extra.unlink()
    extra.symlink_to(tmp_path)  # to a folder, which a walk would pass by
    with pytest.raises(CheckFailed, match=r"extra\.cpp"):
        verify(made.path)
    extra.unlink()
    labels = made.path / "models/small/labels.txt"
    elsewhere = tmp_path / "labels.txt"
    labels.rename(elsewhere)
    with pytest.raises(CheckFailed, match="is missing"):
        verify(made.path)
    labels.symlink_to(elsewhere)
    with pytest.raises(CheckFailed, match="is a link"):
        verify(made.path)


def test_an_index_of_other_models(made: Package) -> None:
    path = made.path / "evm-package.json"
    index = json.loads(path.read_text())
    del index["files"]["models/small/manifest.json"]
    path.write_text(json.dumps(index))
    with pytest.raises(BundleError, match="manifest of 'small'"):
        verify(made.path)


def test_a_package_is_inspected(made: Package) -> None:
    assert made.archive
    for path in (made.path, made.archive):
        found = inspect(path)
        assert found.kind == "package"
        assert (found.facts["platform"], found.facts["signature"]) == ("linux", "none")
        assert found.facts["models"]["small"]["precision"] == "fp32"
    with pytest.raises(OptionError, match="no checkpoint"):
        inspect(made.path, key="model")


def test_the_only_model_of_a_package(
    made: Package, pack: Maker, bundle: Path, make_bundle: Callable[..., Bundle], tmp_path: Path
) -> None:
    with open_only_model(made.path) as opened:
        assert opened.manifest == Bundle.open(bundle).manifest
    two = pack(tmp_path / "two", bundles=[bundle, make_bundle(tmp_path / "other").path], archive=True)
    assert two.archive
    for path, fix in ((two.path, f"such as {two.path / 'models/other'}"), (two.archive, "unpack it, and name")):
        with pytest.raises(OptionError, match="has several models: other, small") as caught, open_only_model(path):
            pass
        assert fix in caught.value.fix
    for call in (lambda: Bundle.open(two.path), lambda: evm_deploy.verify(tmp_path)):
        with pytest.raises(BundleError) as wrong:
            call()
        assert "name one of the bundles in it: " in wrong.value.fix
        assert "small" in wrong.value.fix


def test_what_is_no_package(made: Package, tmp_path: Path, bundle: Path) -> None:
    assert is_package(made.path)
    assert made.archive
    assert is_package(made.archive)
    assert not is_package(bundle)
    for path in (bundle, tmp_path / "nowhere"):
        with pytest.raises(BundleError, match=r"no package|not a package"):
            verify(path)
    (tmp_path / "text.zip").write_text("not a zip file")
    with pytest.raises(BundleError, match="cannot be unpacked"):
        verify(tmp_path / "text.zip")


def test_a_damaged_archive(made: Package, tmp_path: Path) -> None:
    assert made.archive
    good = made.archive.read_bytes()
    for at in range(0, len(good), max(1, len(good) // 97)):
        damaged = tmp_path / "damaged.zip"
        damaged.write_bytes(good[:at] + bytes([good[at] ^ 0x55]) + good[at + 1 :])
        try:
            verify(damaged)
        except EvmDeployError:
            continue
        unchanged = zipfile.ZipFile(damaged)  # a byte that says nothing, such as a date
        with unchanged, zipfile.ZipFile(made.archive) as original:
            assert [unchanged.read(e) for e in unchanged.infolist()] == [original.read(e) for e in original.infolist()]
    (tmp_path / "short.zip").write_bytes(good[: len(good) // 2])
    with pytest.raises(BundleError):
        verify(tmp_path / "short.zip")


TOP = "EfficientVMamba/"


@pytest.mark.parametrize(
    ("change", "more"),
    [
        (lambda name, data: data + b"x" if name.endswith("labels.txt") else data, {}),
        (lambda name, data: data[::-1] if name.endswith("labels.txt") else data, {}),
        (lambda name, data: None if name.endswith("labels.txt") else data, {}),
        (lambda name, data: None if name.endswith("evm-package.json") else data, {}),
        (lambda name, data: data, {TOP + "more.txt": b""}),
        (lambda name, data: data, {TOP + "../../up.txt": b""}),
        (lambda name, data: data, {"/absolute.txt": b""}),
        (lambda name, data: data, {"Other/evm-package.json": b"{}"}),
        (lambda name, data: data, {TOP + "evm-package.json.minisig": b"x" * (1 << 20)}),
    ],
)
def test_a_hostile_archive(
    made: Package, tmp_path: Path, change: Callable[[str, bytes], bytes | None], more: dict[str, bytes]
) -> None:
    assert made.archive
    hostile = rewritten(made.archive, tmp_path / "hostile.zip", change, more)
    with pytest.raises((BundleError, CheckFailed)):
        verify(hostile)
    assert not (tmp_path.parent / "up.txt").exists()


def test_an_archive_compressed_by_others_is_fine(made: Package, tmp_path: Path) -> None:
    assert made.archive
    assert verify(rewritten(made.archive, tmp_path / "again.zip", lambda name, data: data, {})).models == ("small",)


def test_a_bomb_is_not_unpacked(made: Package, tmp_path: Path) -> None:
    assert made.archive

    def grow(name: str, data: bytes) -> bytes:
        if name.endswith("labels.txt"):
            return bytes(64 << 20)
        return data

    with pytest.raises(BundleError, match="does not have the size"):
        verify(rewritten(made.archive, tmp_path / "bomb.zip", grow, {}))
