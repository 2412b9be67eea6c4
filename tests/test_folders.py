"""Folders of any kind: whole or not there, and nothing of the user's is replaced."""

import contextlib
import errno
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evm_deploy import bundle, folders, replacement
from evm_deploy.bundle import Bundle
from evm_deploy.drafts import CAN_LOCK
from evm_deploy.errors import BundleError, OptionError, OutputError
from evm_deploy.folders import FolderKind, check_outside, write_folder, write_folder_and_files

NOTES = FolderKind("book", "index.txt", lambda root: {*(root / "index.txt").read_text().split(), "index.txt"})


def write(out: Path, text: str, overwrite: bool = False) -> None:
    with write_folder(out, NOTES, overwrite) as folder:
        (folder / "chapters").mkdir()
        (folder / "chapters/one.txt").write_text(text)
        (folder / "index.txt").write_text("chapters/one.txt")


def test_it_is_there_when_it_is_whole(tmp_path: Path) -> None:
    with write_folder(tmp_path / "new/out", NOTES) as folder:
        (folder / "index.txt").write_text("")
        assert not (tmp_path / "new/out").exists()
    assert (tmp_path / "new/out/index.txt").is_file()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]


def test_without_its_seal_it_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="did not seal"), write_folder(tmp_path / "new/out", NOTES) as folder:
        (folder / "other.txt").write_text("")
    assert list(tmp_path.iterdir()) == []


def test_only_its_own_kind_is_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, "first")
    with pytest.raises(OutputError, match="pass --overwrite to replace a book"):
        write(out, "second")
    write(out, "second", overwrite=True)
    assert (out / "chapters/one.txt").read_text() == "second"
    (out / "chapters/mine.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"mine\.txt, which is not part of the book"):
        write(out, "third", overwrite=True)
    (out / "chapters/mine.txt").unlink()
    (out / "index.txt").unlink()
    with pytest.raises(OutputError, match="not a book"):
        write(out, "third", overwrite=True)
    assert (out / "chapters/one.txt").read_text() == "second"


@pytest.mark.parametrize("error", [ValueError, RecursionError, OSError, KeyError])
def test_a_kind_that_cannot_read_a_folder_leaves_it(tmp_path: Path, error: type[Exception]) -> None:
    def fail(root: Path) -> set[str]:
        raise error

    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    with (
        pytest.raises(OutputError, match="not a book"),
        write_folder(tmp_path / "out", FolderKind("book", "i", fail), True),
    ):
        pass
    assert (tmp_path / "out/mine.txt").read_text() == "mine"


def test_a_place_in_a_bundle(tmp_path: Path) -> None:
    given = tmp_path / "bundle"
    given.mkdir()
    (tmp_path / "link").symlink_to(given)
    for place in (given, given / "sub/out", tmp_path / "link/out"):
        with pytest.raises(OptionError, match="or in it"):
            check_outside(place, [tmp_path / "other", given])
    for place in (tmp_path / "bundle-out", tmp_path, tmp_path / "bundle/../out"):
        check_outside(place, [given])


STEPS = """
import os, sys, shutil
from pathlib import Path
from evm_deploy import replacement
from evm_deploy.folders import FolderKind, write_folder_and_files

if sys.argv[2] == "two steps":
    replacement.exchange = lambda first, second: False
left = int(sys.argv[3])

def kill_at_the_nth(call):
    def run(*arguments, **options):
        global left
        if left == 0:
            os._exit(9)
        left -= 1
        return call(*arguments, **options)
    return run

calls = (Path.rename, replacement.exchange, shutil.rmtree)
Path.rename, replacement.exchange, shutil.rmtree = map(kill_at_the_nth, calls)
kind = FolderKind("book", "index.txt", lambda root: {"index.txt", "one.txt"}, lambda file: True)
with write_folder_and_files(sys.argv[1], kind, True, ["out.zip"]) as (folder, files):
    files[0].write_text("new")
    (folder / "one.txt").write_text("new")
    (folder / "index.txt").write_text("")
"""


PAIR = FolderKind("book", "index.txt", lambda root: {"index.txt", "one.txt"}, lambda file: True)


def write_pair(out: Path, text: str) -> None:
    with write_folder_and_files(out, PAIR, True, ["out.zip"]) as (folder, files):
        files[0].write_text(text)
        (folder / "one.txt").write_text(text)
        (folder / "index.txt").write_text("")


@pytest.mark.skipif(not CAN_LOCK, reason="leftovers stay on this system")
@pytest.mark.parametrize("way", ["exchange", "two steps"])
def test_killed_at_any_step_the_old_or_the_new_is_there(tmp_path: Path, way: str) -> None:
    """Runs that are killed before their n-th rename or deletion; then one that is not."""
    out, seen = tmp_path / "out", set()
    for step in range(10):
        write_pair(out, "old")
        command = [sys.executable, "-c", STEPS, str(out), way, str(step)]
        done = subprocess.run(command, check=False, timeout=60)
        assert done.returncode in (0, 9)
        if way == "exchange":
            assert (out / "one.txt").read_text() in ("old", "new")
        folders.restore_folder(out, PAIR)
        text = (out / "one.txt").read_text()
        assert text in ("old", "new")
        assert (tmp_path / "out.zip").read_text() == text
        seen.add((done.returncode, text))
        write_pair(out, "newest")
        assert {(out / "one.txt").read_text(), (tmp_path / "out.zip").read_text()} == {"newest"}
        assert {path.name for path in tmp_path.iterdir()} == {"out", "out.zip"}
    assert seen == {(9, "old"), (9, "new"), (0, "new")}


@pytest.mark.parametrize("way", ["exchange", "two steps"])
@pytest.mark.parametrize("step", range(5))
def test_a_step_that_fails_undoes_those_before(
    tmp_path: Path, way: str, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pair(tmp_path / "out", "old")
    left = step

    def fail_at_the_nth(*arguments: Any) -> Any:
        nonlocal left
        left -= 1
        if left == -1:
            raise OSError(errno.EIO, "no")
        return rename(*arguments)

    rename = Path.rename
    monkeypatch.setattr(Path, "rename", fail_at_the_nth)
    if way == "two steps":
        monkeypatch.setattr(replacement, "exchange", lambda first, second: False)
    try:
        write_pair(tmp_path / "out", "new")
    except OSError:
        expected = "old"
    else:
        expected = "new"
    assert {(tmp_path / "out/one.txt").read_text(), (tmp_path / "out.zip").read_text()} == {expected}
    monkeypatch.undo()
    write_pair(tmp_path / "out", "newest")
    assert {path.name for path in tmp_path.iterdir()} == {"out", "out.zip"}


@contextlib.contextmanager
def killed_before_it_is_in_place() -> Iterator[None]:
    """The run in this block leaves complete parts, none of which is in place yet."""

    def die(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(replacement, "_place", die)
        patch.setattr(replacement, "_take_back", die)
        yield


def test_what_the_user_put_there_since_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_pair(out, "old")
    with killed_before_it_is_in_place():
        write_pair(out, "new")
    out.rename(tmp_path / "kept")
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    folders.restore_folder(out, PAIR)
    assert (out / "mine.txt").read_text() == "mine"
    assert (tmp_path / "kept/one.txt").read_text() == "old"


def test_a_file_that_the_user_added_since_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_pair(out, "old")
    with killed_before_it_is_in_place():
        write_pair(out, "new")
    (out / "mine.txt").write_text("mine")
    folders.restore_folder(out, PAIR)
    assert (out / "mine.txt").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"out", "out.zip"}


@pytest.mark.parametrize(
    "record", [b"", b"1 0 ../mine", b"1 0 mine", b"\xff", b"1 0 out", b"x y out", b"1 0 out/../mine"]
)
def test_a_record_that_is_not_ours(tmp_path: Path, record: bytes) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "out").mkdir()
    (tmp_path / ".out.01234567.ready").mkdir()
    (tmp_path / ".out.01234567.ready/.record").write_bytes(record)
    (tmp_path / ".out.01234567.ready/out").write_text("theirs")
    folders.restore_folder(tmp_path / "out", PAIR)
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "out"}
    assert (tmp_path / "mine").read_text() == "mine"
    assert (tmp_path / "out").is_dir()


@pytest.mark.skipif(not CAN_LOCK, reason="leftovers stay on this system")
def test_a_run_that_goes_on_keeps_its_draft(tmp_path: Path) -> None:
    with write_folder(tmp_path / "out", NOTES, overwrite=True) as draft:
        (draft / "index.txt").write_text("chapters/one.txt")
        write(tmp_path / "out", "of another run, which ends first")
        assert draft.is_dir()
        (draft / "chapters").mkdir()
        (draft / "chapters/one.txt").write_text("last")
    assert (tmp_path / "out/chapters/one.txt").read_text() == "last"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_drafts_of_other_targets_stay(tmp_path: Path) -> None:
    others = [tmp_path / ".out.b.01234567.partial", tmp_path / ".out.0123.partial", tmp_path / "out.01234567.partial"]
    for other in others:
        other.mkdir()
    (tmp_path / ".out.89abcdef.partial").mkdir()
    write(tmp_path / "out", "first")
    assert {*others, tmp_path / "out"} == {path for path in tmp_path.iterdir() if CAN_LOCK or path in others}


def test_a_bundle_that_was_being_replaced_opens(tmp_path: Path, make_bundle: Callable[..., Bundle]) -> None:
    """On a system without an exchange a kill can come between the two renames."""
    make_bundle(tmp_path / "out")
    with killed_before_it_is_in_place():
        make_bundle(tmp_path / "out", overwrite=True)
    (tmp_path / "out").rename(next(tmp_path.glob(".out.*.ready")) / "out.aside")
    assert Bundle.open(tmp_path / "out").manifest.target == "onnx"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    with pytest.raises(BundleError, match="does not exist"):
        Bundle.open(tmp_path / "other")


def test_a_bundle_that_is_replaced_while_it_is_read(tmp_path: Path, make_bundle: Callable[..., Bundle]) -> None:
    """The manifest of the old one and the files of the new one do not fit: the new one is opened."""
    make_bundle(tmp_path / "out", model=b"old")
    left, hash_file = 3, bundle.sha256_file

    def replace_and_hash(path: Path) -> str:
        nonlocal left
        left -= 1
        if left >= 0:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(bundle, "sha256_file", hash_file)
                make_bundle(tmp_path / "out", model=b"new %d" % left, overwrite=True)
        return hash_file(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundle, "sha256_file", replace_and_hash)
        opened = Bundle.open(tmp_path / "out")
    assert opened.model_path.read_bytes() == b"new 0"
    assert opened.manifest.files["model.onnx"] == hash_file(opened.model_path)


@pytest.mark.parametrize(
    "manifest",
    [
        {"schema_version": 1, "files": {"thesis.txt": "0" * 64}},
        {"schema_version": 1, "files": ["thesis.txt"]},
        {"files": {"thesis.txt": "0" * 64}},
        [],
    ],
)
def test_a_stranger_with_a_manifest_is_not_replaced(
    manifest: object, tmp_path: Path, make_bundle: Callable[..., Bundle]
) -> None:
    """Somebody else's folder, whose manifest.json happens to list its files."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.txt").write_text("mine")
    (tmp_path / "out/manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(OutputError, match="it is not a bundle"):
        make_bundle(tmp_path / "out", overwrite=True)
    assert (tmp_path / "out/thesis.txt").read_text() == "mine"


def test_a_mount_point_is_refused_at_once(small_disk: Path) -> None:
    with (
        pytest.raises(OutputError, match="another file system is mounted there"),
        write_folder(small_disk, NOTES, overwrite=True),
    ):
        raise AssertionError("the block must not run")
