"""A bundle on the machine that measures: whole, or refused; and the golden pair."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evm_deploy.bundle import Bundle
from evm_deploy.profiling.agent.bundle_files import Unmeasurable, check_bundle, compute_relative_error, hash_file
from evm_deploy.tasks.agreement import compare

FINITE = st.floats(-1e6, 1e6, width=32)


@pytest.fixture
def folder(make_bundle: Callable[..., Bundle], tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "net").path


def test_a_whole_bundle(folder: Path) -> None:
    found = check_bundle(folder, hash_file(folder / "manifest.json"))
    assert (found.model, found.size) == (folder / "model.onnx", len(b"model"))
    image, (expected,) = found.read_golden()
    assert (image.shape, expected.shape) == ((1, 3, 32, 32), (3, 3))


def test_another_manifest_is_refused(folder: Path) -> None:
    with pytest.raises(Unmeasurable, match=r"manifest\.json is not that of the requested bundle"):
        check_bundle(folder, "0" * 64)


def test_a_changed_byte_is_refused(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"mOdel")
    with pytest.raises(Unmeasurable, match=r"model\.onnx is not the file"):
        check_bundle(folder, None)


def test_a_missing_file_is_refused(folder: Path) -> None:
    (folder / "labels.txt").unlink()
    with pytest.raises(Unmeasurable, match="missing"):
        check_bundle(folder, None)


def test_a_link_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"model")
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").symlink_to(tmp_path / "secret")
    with pytest.raises(Unmeasurable, match="link"):
        check_bundle(folder, None)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a//b", "a\\b", "c:d", ""])
def test_a_way_out_of_the_folder_is_refused(folder: Path, name: str) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(Unmeasurable, match="leaves"):
        check_bundle(folder, None)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": []}', '{"files": {}, "target": 1}', "[" * 100_000])
def test_what_is_no_manifest_is_refused(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text)
    with pytest.raises(Unmeasurable):
        check_bundle(folder, None)


def test_an_array_with_objects_is_refused(folder: Path) -> None:
    np.save(folder / "sample/input.npy", np.array([{}]), allow_pickle=True)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["sample/input.npy"] = hash_file(folder / "sample/input.npy")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(Unmeasurable, match="not a plain array"):
        check_bundle(folder, None).read_golden()


@given(st.lists(FINITE, min_size=1, max_size=9), st.lists(FINITE, min_size=9, max_size=9))
def test_the_error_is_that_of_verify(expected: list[float], found: list[float]) -> None:
    right = np.array(expected, np.float32)
    mine = np.array(found[: len(expected)], np.float32)
    error = compute_relative_error([mine], [right])
    assert error == pytest.approx(compare(mine, right, scores=False).relative, rel=1e-5, abs=1e-9)


def test_an_error_of_what_cannot_be_compared() -> None:
    one = np.ones((1, 3), np.float32)
    assert compute_relative_error([one], [one]) == 0
    assert compute_relative_error([one, 2 * one], [one, one]) == 1
    assert compute_relative_error([one[:, :2]], [one]) is None
    assert compute_relative_error([np.full_like(one, np.nan)], [one]) is None
    assert compute_relative_error([one], [one, one]) is None
