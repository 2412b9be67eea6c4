"""Folders of any kind: whole or not there, and nothing of the user's is replaced."""

from pathlib import Path

import pytest

from evm_deploy.errors import OptionError, OutputError
from evm_deploy.folders import Kind, check_outside, write_folder

NOTES = Kind("book", "index.txt", lambda root: {*(root / "index.txt").read_text().split(), "index.txt"})


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
    with pytest.raises(OutputError, match="not a book"), write_folder(tmp_path / "out", Kind("book", "i", fail), True):
        pass
    assert (tmp_path / "out/mine.txt").read_text() == "mine"


def test_a_place_in_a_bundle(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (tmp_path / "link").symlink_to(bundle)
    for place in (bundle, bundle / "sub/out", tmp_path / "link/out"):
        with pytest.raises(OptionError, match="or in it"):
            check_outside(place, [tmp_path / "other", bundle])
    for place in (tmp_path / "bundle-out", tmp_path, tmp_path / "bundle/../out"):
        check_outside(place, [bundle])
