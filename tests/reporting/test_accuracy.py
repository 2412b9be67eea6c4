"""Evaluations beside profiles: read strictly, matched only where it is clear what they are of."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evm_deploy.errors import InputError
from evm_deploy.profiling.report import Result
from evm_deploy.reporting import accuracy
from evm_deploy.reporting.accuracy import Accuracy, AccuracyShare

ROW = {
    "bundle": "a/tiny",
    "runtime": "onnxruntime",
    "precision": "fp32",
    "top1": {"value": 0.5, "low": 0.4, "high": 0.6},
}


def write(folder: Path, **changes: Any) -> Path:
    text = json.dumps({"rows": [ROW | {"megabytes": 26.0} | changes], "images": 10, "notes": []})
    (folder / "evaluation.json").write_text(text)
    return folder


def test_a_folder_and_a_file_are_read(tmp_path: Path) -> None:
    expected = (Accuracy("a/tiny", "onnxruntime", "fp32", AccuracyShare(0.5, 0.4, 0.6)),)
    assert accuracy.read_accuracies(write(tmp_path)) == expected
    assert accuracy.read_accuracies(tmp_path / "evaluation.json") == expected


def test_rows_without_labels_are_passed_over(tmp_path: Path) -> None:
    assert accuracy.read_accuracies(write(tmp_path, top1=None)) == ()


@pytest.mark.parametrize(
    "changes",
    [{"top1": {"value": 2.0, "low": 0.4, "high": 3.0}}, {"top1": {"value": 0.5}}, {"bundle": 3}, {"top1": "0.5"}],
)
def test_another_shape_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="is not an evaluation"):
        accuracy.read_accuracies(write(tmp_path, **changes))


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b"\xff", b"[" * 100_000])
def test_no_evaluation(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "evaluation.json").write_bytes(text)
    with pytest.raises(InputError, match="is not an evaluation"):
        accuracy.read_accuracies(tmp_path)


def test_a_file_that_is_not_there_or_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        accuracy.read_accuracies(tmp_path)
    monkeypatch.setattr(accuracy, "LARGEST", 10)
    with pytest.raises(InputError, match="more than 10 bytes"):
        accuracy.read_accuracies(write(tmp_path))
    monkeypatch.undo()
    with (tmp_path / "evaluation.json").open("wb") as stream:
        stream.truncate(1 << 40)  # of which nobody has the memory to read more than the limit
    with pytest.raises(InputError, match="more than"):
        accuracy.read_accuracies(tmp_path)


def test_the_way_that_was_evaluated_comes_first(make_result: Callable[..., Result]) -> None:
    known = [
        Accuracy("x/tiny", name, "fp32", AccuracyShare(*3 * (top1,)))
        for name, top1 in (("a", 0.1), ("onnxruntime", 0.2))
    ]
    assert accuracy.match_accuracy(known, make_result("tiny", 1.0)) == AccuracyShare(0.2, 0.2, 0.2)
    assert accuracy.match_accuracy(known, make_result("tiny", 1.0, runtime="c")) == AccuracyShare(0.1, 0.1, 0.1)
    assert accuracy.match_accuracy(known, make_result("tiny", 1.0, precision="int8")) is None
    assert accuracy.match_accuracy([], make_result("tiny", 1.0, accuracy=0.3)) == AccuracyShare(0.3, 0.3, 0.3)


def test_two_bundles_of_one_name_are_not_guessed(make_result: Callable[..., Result]) -> None:
    known = [Accuracy(path, "onnxruntime", "fp32", AccuracyShare(0.5, 0.4, 0.6)) for path in ("x/tiny", "y/tiny")]
    assert accuracy.match_accuracy(known, make_result("tiny", 1.0)) is None


@pytest.mark.parametrize(
    ("path", "name"), [("a/tiny", "tiny"), ("tiny/", "tiny"), (r"C:\a\tiny", "tiny"), ("PyTorch", "PyTorch")]
)
def test_the_name_of_a_bundle(path: str, name: str) -> None:
    assert Accuracy(path, "", "", None).name == name
