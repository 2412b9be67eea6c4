"""Packages: everything is in them, hashed and reproducible; what cannot be made leaves nothing behind."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evm_deploy.bundle import Bundle
from evm_deploy.errors import BundleError, InputError, OptionError, OutputError
from evm_deploy.packaging import linux
from evm_deploy.packaging.index import Index
from evm_deploy.packaging.licences import LICENCES, write_licences
from evm_deploy.packaging.package import LONGEST_NAME, Package, _make_identifier, _make_unique
from evm_deploy.packaging.verify import verify

Maker = Callable[..., Package]


def content(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {file.relative_to(folder).as_posix(): (file.read_bytes(), file.stat().st_mode & 0o777) for file in files}


def test_the_index_lists_every_file(pack: Maker, tmp_path: Path) -> None:
    made = pack(tmp_path / "out")
    files = content(tmp_path / "out")
    index = json.loads(files.pop("evm-package.json")[0])
    assert index["files"] == {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, (data, _) in files.items()
    }
    assert index["models"]["small"]["folder"] == "models/small"
    assert index["platform"] == "linux"
    assert index["licences"] == ["Apache-2.0", "MIT"]
    assert made.bytes == sum(path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert Bundle.open(tmp_path / "out/models/small").labels() == ("cat", "dog", "eel")


@pytest.mark.parametrize(
    ("model", "name"),
    [({"family": "Vim"}, "Vim"), ({"class": "My_Net2"}, "MyNet2"), ({"class": "_"}, "Model"), ({}, "EfficientVMamba")],
)
def test_a_package_is_named_after_its_first_model(
    pack: Maker, make_bundle: Callable[..., Bundle], tmp_path: Path, model: dict[str, str], name: str
) -> None:
    bundles = [make_bundle(tmp_path / "one", model=b"m").path, make_bundle(tmp_path / "two").path]
    manifest = json.loads((bundles[0] / "manifest.json").read_text())
    (bundles[0] / "manifest.json").write_text(json.dumps(manifest | {"model": model}))
    assert pack(tmp_path / "out", bundles=bundles).index.name == name
    assert (tmp_path / "out/README.md").read_text().startswith(f"# {name}\n\n{name} for linux: ")
    assert pack(tmp_path / "named", bundles=bundles, name="Mine").index.name == "Mine"


def test_equal_input_gives_equal_bytes(pack: Maker, tmp_path: Path) -> None:
    one = pack(tmp_path / "one", archive=True)
    old = os.umask(0o077)
    try:
        two = pack(tmp_path / "elsewhere" / "two", archive=True)
    finally:
        os.umask(old)
    assert content(tmp_path / "one") == content(tmp_path / "elsewhere" / "two")
    assert one.archive_sha256 == two.archive_sha256
    assert one.archive
    assert one.archive_sha256 == hashlib.sha256(one.archive.read_bytes()).hexdigest()


def test_a_changed_bundle_changes_the_archive(pack: Maker, tmp_path: Path, make_bundle: Callable[..., Bundle]) -> None:
    one = pack(tmp_path / "one", archive=True)
    make_bundle(tmp_path / "small", model=b"other", overwrite=True)
    assert pack(tmp_path / "two", archive=True).archive_sha256 != one.archive_sha256


def test_the_archive_unpacks_to_the_folder(pack: Maker, tmp_path: Path) -> None:
    made = pack(tmp_path / "out", archive=True, name="Birds")
    assert made.archive == tmp_path / "out.zip"
    with zipfile.ZipFile(made.archive) as archive:
        assert {name.split("/")[0] for name in archive.namelist()} == {"Birds"}
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        script = archive.getinfo("Birds/smoke.sh")
        archive.extractall(tmp_path / "unpacked")
    assert stat.S_IMODE(script.external_attr >> 16) == 0o755
    plain = {name: data for name, (data, _) in content(tmp_path / "out").items()}
    assert {name: data for name, (data, _) in content(tmp_path / "unpacked/Birds").items()} == plain


def test_nothing_of_this_machine_is_in_it(pack: Maker, tmp_path: Path, bundle: Path) -> None:
    pack(tmp_path / "out")
    for name, (data, _) in content(tmp_path / "out").items():
        for trace in (
            str(tmp_path).encode(),
            str(Path.home()).encode() + b"/",
            str(Path(__file__).parents[2]).encode(),
        ):
            assert trace not in data, name


def test_only_scripts_are_executable(pack: Maker, tmp_path: Path) -> None:
    pack(tmp_path / "out")
    modes = {name: mode for name, (_, mode) in content(tmp_path / "out").items()}
    assert {name for name, mode in modes.items() if mode == 0o755} == {"smoke.sh", "python/evm_model.py"}
    assert set(modes.values()) == {0o755, 0o644}


def test_the_readme_says_what_is_there(pack: Maker, tmp_path: Path) -> None:
    made = pack(tmp_path / "out")
    text = (tmp_path / "out/README.md").read_text()
    assert 'evm::Model model("models/small");' in text
    assert "| `small` | onnx | fp32 | 5e-06 | `models/small` |" in text
    for note in made.index.notes:
        assert f"- {note}\n" in text
    for entry in (tmp_path / "out").iterdir():
        if entry.name not in ("README.md", "evm-package.json", "models"):
            assert f"`{entry.name}{'/' if entry.is_dir() else ''}`" in text
    assert "@" not in (tmp_path / "out/CMakeLists.txt").read_text()


def test_bundles_get_names_of_their_own(pack: Maker, tmp_path: Path, make_bundle: Callable[..., Bundle]) -> None:
    folders = [tmp_path / place for place in ("a/net.v1", "b/net v1", "c/NET_V1", "d/7", "e/ünï")]
    for folder in folders:
        make_bundle(folder)
    made = pack(tmp_path / "out", bundles=folders)
    assert list(made.index.models) == ["net_v1", "net_v1_2", "NET_V1_3", "model_7", "n"]


@given(st.lists(st.text(max_size=60), min_size=1, max_size=8))
def test_names_are_identifiers(texts: list[str]) -> None:
    names: list[str] = []
    for text in texts:
        names.append(_make_unique(_make_identifier(text), {name.lower() for name in names}))
    assert len({name.lower() for name in names}) == len(names)
    for name in names:
        assert name.isidentifier()
        assert name.isascii()
        assert name[0].isalpha()
        assert len(name) <= LONGEST_NAME


@pytest.mark.parametrize("platform", ["ios", "android", "jetson", "linux", "web"])
def test_a_bundle_for_another_target(
    pack: Maker, tmp_path: Path, make_bundle: Callable[..., Bundle], platform: str
) -> None:
    other = make_bundle(tmp_path / "other", target="elsewhere").path
    with pytest.raises(OptionError, match=f"bundle for elsewhere; {platform} accepts"):
        pack(tmp_path / "out", platform, [other], archive=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "small"]


def test_what_cannot_be_packaged(pack: Maker, tmp_path: Path, bundle: Path) -> None:
    with pytest.raises(InputError, match="no bundle"):
        pack(tmp_path / "out", bundles=[])
    with pytest.raises(InputError, match="twice"):
        pack(tmp_path / "out", bundles=[bundle, tmp_path / "." / "small"])
    with pytest.raises(BundleError, match="does not exist"):
        pack(tmp_path / "out", bundles=[tmp_path / "nowhere"])
    (bundle / "labels.txt").write_text("changed")
    with pytest.raises(BundleError, match="sha256"):
        pack(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("archive", [False, True])
def test_a_failure_leaves_nothing(pack: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, archive: bool) -> None:
    def fail(*arguments: object) -> None:
        raise KeyboardInterrupt

    place = "evm_deploy.packaging.archive.write_archive" if archive else "evm_deploy.packaging.package.render_readme"
    monkeypatch.setattr(place, fail)
    with pytest.raises(KeyboardInterrupt):
        pack(tmp_path / "new" / "out", archive=True)
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


def test_existing_things_are_left_alone(pack: Maker, tmp_path: Path) -> None:
    (tmp_path / "out.zip").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=r"out\.zip"):
            pack(tmp_path / "out", archive=True, overwrite=overwrite)
    assert (tmp_path / "out.zip").read_text() == "mine"
    assert not (tmp_path / "out").exists()
    pack(tmp_path / "out")
    with pytest.raises(OutputError, match="exists"):
        pack(tmp_path / "out")
    (tmp_path / "out/mine.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"mine\.txt, which is not part of the package"):
        pack(tmp_path / "out", overwrite=True)
    assert (tmp_path / "out/mine.txt").read_text() == "mine"


def test_overwrite_replaces_a_package(pack: Maker, tmp_path: Path) -> None:
    pack(tmp_path / "out", archive=True)
    made = pack(tmp_path / "out", archive=True, overwrite=True, name="Second")
    assert made.archive
    assert verify(made.archive).name == verify(tmp_path / "out").name == "Second"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.zip", "small"]


def test_a_bundle_is_no_package_to_replace(pack: Maker, tmp_path: Path, bundle: Path) -> None:
    other = Path(shutil.copytree(bundle, tmp_path / "other"))
    with pytest.raises(OutputError, match="it is not a package"):
        pack(other, overwrite=True)
    with pytest.raises(OptionError, match="or in it"):
        pack(bundle / "package")
    assert Bundle.open(bundle)
    assert Bundle.open(other)
    assert not (bundle / "package").exists()


def test_every_licence_has_its_text(tmp_path: Path) -> None:
    found = write_licences(tmp_path, LICENCES)
    notice = (tmp_path / "NOTICE").read_text()
    assert {f"{spdx}.txt" for spdx in found} == {path.name for path in (tmp_path / "LICENSES").iterdir()}
    for row in LICENCES.values():
        assert row.component in notice
        assert row.copyright in notice
    assert (tmp_path / "LICENSES/Apache-2.0.txt").read_bytes() == (Path(__file__).parents[2] / "LICENSE").read_bytes()


def test_the_index_is_read_strictly(pack: Maker, tmp_path: Path) -> None:
    pack(tmp_path / "out")
    text = json.loads((tmp_path / "out/evm-package.json").read_bytes())
    assert Index.from_json(json.dumps(text).encode()).platform == "linux"
    hostile = [
        {"more": 1},
        {"schema_version": 2},
        {"schema_version": True},
        {"files": {"../x": {"sha256": "0" * 64, "bytes": 1}}},
        {"files": {"evm-package.json": {"sha256": "0" * 64, "bytes": 1}}},
        {"files": {**text["files"], "x": {"sha256": "0", "bytes": 1}}},
        {"files": {**text["files"], "x": {"sha256": "0" * 64, "bytes": -1}}},
        {"models": {"small": {**text["models"]["small"], "manifest_sha256": "0" * 64}}},
        {"models": {"small": {**text["models"]["small"], "folder": "/etc"}}},
    ]
    for change in hostile:
        with pytest.raises(BundleError, match=r"evm-package\.json"):
            Index.from_json(json.dumps(text | change).encode())
    for broken in (b"", b"[]", b"[" * 100_000, b"\xff"):
        with pytest.raises(BundleError):
            Index.from_json(broken)


def test_a_platform_that_forgets_a_model_is_noticed(
    pack: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evm_deploy.packaging.contents import Contents

    monkeypatch.setattr(linux, "write", lambda bundles, folder, options, say: Contents({}, ""))
    with pytest.raises(RuntimeError, match="left out a model"):
        pack(tmp_path / "out")
    assert not (tmp_path / "out").exists()
