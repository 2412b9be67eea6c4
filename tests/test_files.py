"""Files are written whole or not at all, and read only where they are regular and small enough."""

import hashlib
import os
from pathlib import Path

import pytest

from evm_deploy.drafts import CAN_LOCK
from evm_deploy.errors import InputError, OutputError
from evm_deploy.files import digest_file, find_file, read_file, read_text, replace_file, sha256_file, write_file


def refuse(cause: str) -> InputError:
    return InputError(cause, "name another.")


def test_a_file_and_its_folder_are_written(tmp_path: Path) -> None:
    write_file(tmp_path / "a/b/text", "é\n")
    write_file(tmp_path / "a/b/bytes", b"\xff")
    assert (tmp_path / "a/b/text").read_bytes() == "é\n".encode()
    assert (tmp_path / "a/b/bytes").read_bytes() == b"\xff"
    assert sorted(path.name for path in (tmp_path / "a/b").iterdir()) == ["bytes", "text"]


def test_a_name_of_the_greatest_length(tmp_path: Path) -> None:
    write_file(tmp_path / ("ö" * 127), "text")
    assert (tmp_path / ("ö" * 127)).read_text() == "text"


@pytest.mark.skipif(not CAN_LOCK, reason="leftovers stay on this system")
def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".file.01234567.partial").write_text("half")
    (tmp_path / ".other.01234567.partial").write_text("of another file")
    with replace_file(tmp_path / "file") as draft:
        write_file(tmp_path / "file", "of another run, which ends first")
        assert draft.exists()  # of a run that goes on
        draft.write_text("text")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.01234567.partial", "file"]
    assert (tmp_path / "file").read_text() == "text"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, OSError])
def test_what_was_there_stays_on_any_failure(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "file"
    path.write_text("before")

    def write_half() -> None:
        with replace_file(path) as draft:
            draft.write_text("half")
            raise error

    with pytest.raises(error):
        write_half()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=r"the cache cannot be written \(.+\)") as caught:
        write_file(tmp_path / "file" / "new", "text", place="--cache", what="the cache")
    assert caught.value.fix == "choose another --cache."


def test_a_full_disk(small_disk: Path) -> None:
    path = small_disk / "file"
    path.write_text("before")
    with pytest.raises(OutputError, match="the disk is full"):
        write_file(path, bytes(2 << 20))
    assert path.read_text() == "before"
    assert list(small_disk.iterdir()) == [path]


def test_reading_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read_file(tmp_path / "file", 5, refuse) == b"12345"
    with pytest.raises(InputError, match="more than 4 bytes"):
        read_file(tmp_path / "file", 4, refuse)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    """Opening one would wait for a writer for ever."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe is not a file"):
        read_file(tmp_path / "pipe", 5, refuse)
    with pytest.raises(InputError, match="pipe is missing"):
        find_file(tmp_path, "pipe", refuse)


@pytest.mark.parametrize("path", ["/dev/zero", "/", "nowhere", "a\0b"])
def test_what_is_no_file_is_refused(path: str) -> None:
    with pytest.raises(InputError, match=r"is not a file|cannot be read"):
        read_file(Path(path), 1 << 20, refuse)


def test_text_is_utf8(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\xef\xbb\xbftext")
    assert read_text(tmp_path / "file", 9, refuse, "utf-8-sig") == "text"
    (tmp_path / "file").write_bytes(b"\xff")
    with pytest.raises(InputError, match="is not UTF-8 text"):
        read_text(tmp_path / "file", 9, refuse)


def test_a_file_of_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "a").mkdir(parents=True)
    (folder / "a/file").write_text("text")
    (tmp_path / "secret").write_text("secret")
    (folder / "link").symlink_to(tmp_path)
    assert find_file(folder, "a/file", refuse) == folder / "a/file"
    for name, said in {
        "../secret": "leaves",
        "/etc/passwd": "leaves",
        "link/secret": "is a link",
        "a": "is missing",
        "b": "is missing",
    }.items():
        with pytest.raises(InputError, match=said):
            find_file(folder, name, refuse)
    with pytest.raises(InputError, match="more than 3 bytes"):
        find_file(folder, "a/file", refuse, limit=3)
    with pytest.raises(InputError, match=r"b is missing from archive\.zip"):
        find_file(folder, "b", refuse, shown=Path("archive.zip"))


def test_digests(tmp_path: Path) -> None:
    content = bytes(range(256)) * 9000  # more than one block
    (tmp_path / "file").write_bytes(content)
    assert sha256_file(tmp_path / "file") == hashlib.sha256(content).hexdigest()
    assert digest_file(tmp_path / "file", "blake2b") == hashlib.blake2b(content).digest()
