"""Bundles: what is written is what is read, and nothing damaged, foreign or half-made passes for one."""

import dataclasses
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evm_deploy import replacement
from evm_deploy.bundle import Bundle, CheckpointRecord, IOSpec, Preprocessing, Sample, write_bundle
from evm_deploy.errors import BundleError, OutputError
from evm_deploy.files import check_relative, sha256_file
from evm_deploy.manifest import Manifest
from evm_deploy.runtimes import onnxruntime

Maker = Callable[..., Bundle]


@pytest.fixture
def bundle(tmp_path: Path, make_bundle: Maker) -> Bundle:
    return make_bundle(tmp_path / "bundle")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def edit(bundle: Bundle, **changes: Any) -> None:
    """Changes manifest.json as another program could."""
    path = bundle.path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# What is written is what is read.


def test_round_trip(bundle: Bundle, manifest: Manifest) -> None:
    read = Bundle.open(bundle.path)
    expected = dataclasses.replace(manifest, labels="labels.txt", files=read.manifest.files, parity={"psnr": None})
    assert read.manifest == expected
    assert read.model_path.read_bytes() == b"model"
    assert read.labels() == ("cat", "dog", "eel")
    sample = read.sample()
    assert sample.input.shape == (1, 3, 32, 32)
    np.testing.assert_array_equal(sample.outputs[0], np.eye(3, dtype=np.float32))
    assert set(read.manifest.files) == {"model.onnx", "labels.txt", "sample/input.npy", "sample/output.npy"}


def test_equal_manifests_are_equal_text(tmp_path: Path, make_bundle: Maker) -> None:
    one, two = make_bundle(tmp_path / "one"), make_bundle(tmp_path / "two")
    texts = [(made.path / "manifest.json").read_bytes() for made in (one, two)]
    assert texts[0] == texts[1]
    keys = list(json.loads(texts[0]))
    assert keys == sorted(keys)


def test_no_place_of_the_writing_machine_is_recorded(bundle: Bundle) -> None:
    assert str(bundle.path.parent) not in (bundle.path / "manifest.json").read_text()
    with pytest.raises(ValueError, match="without folders"):
        CheckpointRecord("/home/me/tiny.pth", "0" * 64)


def test_a_bundle_can_be_moved(bundle: Bundle, tmp_path: Path) -> None:
    moved = shutil.move(bundle.path, tmp_path / "elsewhere")
    assert Bundle.open(moved).labels() == ("cat", "dog", "eel")


def test_a_model_that_is_a_folder_and_several_outputs(tmp_path: Path, manifest: Manifest) -> None:
    outputs = tuple(IOSpec(f"feature{i}", (i + 1,), "float32", "NCHW", "features") for i in range(2))
    changed = dataclasses.replace(
        manifest, task="backbone", target="other", model_file="model.package", outputs=outputs
    )
    with write_bundle(tmp_path / "out") as draft:
        weights = draft.path / "model.package" / "data" / "weights.bin"
        weights.parent.mkdir(parents=True)
        weights.write_bytes(b"w")
        maps = (np.ones(1, np.float32), np.full(2, 2, np.float32))
        draft.write_sample(Sample(np.zeros((1, 3, 32, 32), np.float32), maps))
        draft.seal(changed)
    read = Bundle.open(tmp_path / "out")
    assert read.model_path.is_dir()
    assert read.manifest.files["model.package/data/weights.bin"] == sha256_file(read.model_path / "data/weights.bin")
    assert [output.tolist() for output in read.sample().outputs] == [[1.0], [2.0, 2.0]]
    assert read.labels() is None
    weights = read.model_path / "data/weights.bin"
    weights.write_bytes(b"v")
    with pytest.raises(BundleError, match=r"weights\.bin"):
        Bundle.open(read.path)


def test_seal_may_be_called_again(tmp_path: Path, make_bundle: Maker, manifest: Manifest) -> None:
    with write_bundle(tmp_path / "out") as draft:
        (draft.path / "model.onnx").write_bytes(b"model")
        draft.write_sample(Sample(np.zeros(1), (np.zeros(1),)))
        first = draft.seal(dataclasses.replace(manifest, parity=None))
        assert first.model_path.read_bytes() == b"model"
        draft.seal(dataclasses.replace(manifest, parity={"passed": True}))
    assert Bundle.open(tmp_path / "out").manifest.parity == {"passed": True}


# A reader takes nothing on trust.


@pytest.mark.parametrize("name", ["model.onnx", "labels.txt", "sample/input.npy", "sample/output.npy"])
def test_a_changed_byte(bundle: Bundle, name: str) -> None:
    path = bundle.path / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match=rf"{name} .*sha256"):
        Bundle.open(bundle.path)


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json"])
def test_a_pointer_of_git_lfs(bundle: Bundle, name: str) -> None:
    (bundle.path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(BundleError, match=r"pointer of git LFS.*git lfs pull"):
        Bundle.open(bundle.path)


@pytest.mark.parametrize("name", ["model.onnx", "labels.txt", "sample/output.npy", "manifest.json"])
def test_a_missing_file(bundle: Bundle, name: str) -> None:
    (bundle.path / name).unlink()
    with pytest.raises(BundleError, match=name):
        Bundle.open(bundle.path)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b", "C:/x", "a\\b", "a//b", "./a", "", "a\nb"])
def test_a_path_that_leaves_the_folder(bundle: Bundle, name: str) -> None:
    for change in ({"files": bundle.manifest.files | {name: "0" * 64}}, {"model_file": name}, {"labels": name}):
        edit(bundle, **{"files": bundle.manifest.files, "model_file": "model.onnx", "labels": None} | change)
        with pytest.raises(BundleError) as caught:
            Bundle.open(bundle.path)
        assert "leaves the bundle's folder" in caught.value.cause
        assert "\n" not in str(caught.value)


@given(st.lists(st.sampled_from(["a", "b.c", "..", ".", "", "C:", "~", "é"]), min_size=1, max_size=4).map("/".join))
def test_relative_paths_stay_inside(name: str) -> None:
    try:
        check_relative(name)
    except ValueError:
        assert {"..", ".", "", "C:"} & set(name.split("/"))
    else:
        root = Path("/root/bundle")
        assert root in Path(os.path.normpath(root / name)).parents


def test_links(bundle: Bundle, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    shutil.copy(bundle.path / "model.onnx", secret)
    (bundle.path / "model.onnx").unlink()
    (bundle.path / "model.onnx").symlink_to(secret / "model.onnx")
    with pytest.raises(BundleError, match="is a link"):
        Bundle.open(bundle.path)


def test_a_link_to_a_folder(bundle: Bundle, tmp_path: Path) -> None:
    shutil.move(bundle.path / "sample", tmp_path / "sample")
    (bundle.path / "sample").symlink_to(tmp_path / "sample")
    with pytest.raises(BundleError, match="is a link"):
        Bundle.open(bundle.path)


def test_a_link_to_the_bundle_itself_is_the_users_own(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to(bundle.path)
    assert Bundle.open(tmp_path / "latest").manifest == bundle.manifest


@pytest.mark.parametrize("version", [0, 2, "1", None, True, [1]])
def test_an_unknown_schema_version(bundle: Bundle, version: object) -> None:
    edit(bundle, schema_version=version)
    with pytest.raises(BundleError, match="schema version"):
        Bundle.open(bundle.path)


@pytest.mark.parametrize(
    "change",
    [
        {"surprise": 1},
        {"task": "poetry"},
        {"opset": "20"},
        {"files": {"model.onnx": "abc"}},
        {"files": []},
        {"inputs": [{"name": "x"}]},
        {"model": None},
        {"preprocessing": {"image_size": [224, 0]}},
        {"preprocessing": {"image_size": [224, 224], "std": [1, 1, 0]}},
        {"preprocessing": {"image_size": [224, 224], "mean": [1e400, 0, 0]}},
        {"preprocessing": {"image_size": [224, 224], "std": [1, 1, 1e-320]}},
        {"preprocessing": {"image_size": [32, 32], "interpolation": "area"}},
        {"preprocessing": {"image_size": [32, 32], "resize": "stretch"}},
        {"preprocessing": {"image_size": [32, 32], "channels": "GRB"}},
        {"preprocessing": {"image_size": [32, 32], "resize": "letterbox", "fill": 256}},
        {"preprocessing": {"image_size": [32, 32], "resize": "letterbox", "fill": 0.5}},
        {"preprocessing": {"image_size": [32, 32], "fill": 1}},
        {"preprocessing": {"image_size": [32, 32], "padding": 1}},
        {"checkpoint": {"file": "../x.pth", "sha256": "0" * 64}},
    ],
)
def test_a_manifest_with_other_contents(bundle: Bundle, change: dict[str, Any]) -> None:
    edit(bundle, **change)
    with pytest.raises(BundleError, match="not valid") as caught:
        Bundle.open(bundle.path)
    assert next(iter(change)) in caught.value.cause or "sha256 of 'model.onnx'" in caught.value.cause
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"[]", b"1", b"{", b"\xff\xfe", b"[" * 500_000, b'{"schema_version": 1}'])
def test_a_manifest_that_is_none(bundle: Bundle, text: bytes) -> None:
    (bundle.path / "manifest.json").write_bytes(text)
    with pytest.raises(BundleError):
        Bundle.open(bundle.path)


def test_a_huge_manifest(bundle: Bundle) -> None:
    with (bundle.path / "manifest.json").open("ab") as file:
        file.truncate(1 << 34)  # sparse: only a reader that reads it all would notice
    with pytest.raises(BundleError, match="more than 1048576 bytes"):
        Bundle.open(bundle.path)


def test_what_is_used_must_be_hashed(bundle: Bundle) -> None:
    for name in ("model.onnx", "labels.txt", "sample/input.npy"):
        edit(bundle, files={key: value for key, value in bundle.manifest.files.items() if key != name})
        with pytest.raises(BundleError, match=f"does not list {name}"):
            Bundle.open(bundle.path)


def test_no_bundle_at_all(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for name, message in (("none", "does not exist"), ("file", "is not a folder"), (".", "is not a bundle")):
        with pytest.raises(BundleError, match=message):
            Bundle.open(tmp_path / name)


def test_a_sample_is_never_unpickled(bundle: Bundle) -> None:
    path = bundle.path / "sample" / "input.npy"
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(BundleError, match="not a plain NumPy array"):
        bundle.sample()


def test_a_sample_whose_header_does_not_end(bundle: Bundle) -> None:
    header = b"(((("
    path = bundle.path / "sample" / "input.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(BundleError, match="not a plain NumPy array"):
        bundle.sample()


def test_a_sample_that_promises_more_than_it_holds(bundle: Bundle) -> None:
    path = bundle.path / "sample" / "input.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40,)})
    with pytest.raises(BundleError, match="not a plain NumPy array"):
        bundle.sample()


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("input", np.zeros((1, 3, 32), np.float32)),
        ("input", np.zeros((1, 3, 32, 33), np.float32)),
        ("input", np.zeros((0, 3, 32, 32), np.float32)),
        ("input", np.zeros((1, 3, 32, 32), np.float64)),
        ("input", np.zeros((1, 3, 32, 32), ">f4")),
        ("output", np.zeros((1, 4), np.float32)),
        ("output", np.array(["a"])),
    ],
)
def test_a_sample_is_what_the_manifest_declares(bundle: Bundle, name: str, array: np.ndarray[Any, Any]) -> None:
    np.save(bundle.path / "sample" / f"{name}.npy", array)
    with pytest.raises(BundleError, match=rf"{name}\.npy is .* but (image|probabilities) is float32 \("):
        bundle.sample()


@pytest.mark.parametrize(
    "change",
    [
        {"preprocessing": {"image_size": [33, 32]}},
        {"preprocessing": {"image_size": [32, 32], "baked": True}},
        {"preprocessing": {"image_size": [1, 1]}},
        {"inputs": []},
        {"outputs": []},
        {"task": "backbone"},
    ],
)
def test_tensors_that_do_not_fit_the_rest(bundle: Bundle, change: dict[str, Any]) -> None:
    edit(bundle, **change)
    with pytest.raises(BundleError, match=r"inputs do not take the preprocessed image|outputs .* are not those of"):
        Bundle.open(bundle.path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\xff\xfe", "UTF-8"), (b"cat\ndog\n", "2 labels for 3 classes"), (b"x\n" * (3 << 20), "more than")],
)
def test_no_command_goes_on_with_wrong_labels(bundle: Bundle, content: bytes, message: str) -> None:
    """Their hash is right: `verify` and `package` do not pass what `predict` then refuses."""
    (bundle.path / "labels.txt").write_bytes(content)
    edit(bundle, files=bundle.manifest.files | {"labels.txt": hashlib.sha256(content).hexdigest()})
    for use in (bundle.labels, lambda: Bundle.open(bundle.path)):
        with pytest.raises(BundleError, match=message):
            use()


# A writer leaves a whole bundle, or nothing.


def fail_half_way(out: Path, failure: BaseException) -> None:
    with write_bundle(out) as draft:
        (draft.path / "model.onnx").write_bytes(b"half")
        raise failure


def test_an_existing_output_is_refused(bundle: Bundle, make_bundle: Maker) -> None:
    with pytest.raises(OutputError, match="--overwrite"):
        make_bundle(bundle.path, model=b"new")
    assert Bundle.open(bundle.path).model_path.read_bytes() == b"model"


def test_overwrite_replaces_a_bundle(bundle: Bundle, make_bundle: Maker) -> None:
    make_bundle(bundle.path, model=b"new", overwrite=True)
    assert Bundle.open(bundle.path).model_path.read_bytes() == b"new"
    assert names(bundle.path.parent) == ["bundle"]


def test_overwrite_replaces_a_damaged_bundle_and_an_empty_folder(
    bundle: Bundle, tmp_path: Path, make_bundle: Maker
) -> None:
    (bundle.path / "model.onnx").write_bytes(b"damaged")
    (tmp_path / "empty").mkdir()
    for out in (bundle.path, tmp_path / "empty"):
        assert make_bundle(out, overwrite=True).model_path.read_bytes() == b"model"


def test_a_model_that_is_replaced_after_the_check_is_not_run(tmp_path: Path, make_bundle: Maker) -> None:
    bundle = make_bundle(tmp_path / "out")
    assert bundle.read_model() == b"model"
    bundle.model_path.write_bytes(b"other")
    with pytest.raises(BundleError, match=r"model.onnx was replaced while it was read"):
        onnxruntime.open_bundle(bundle, library=False)


@pytest.mark.parametrize("content", [{}, {"photo.jpg": ""}, {"manifest.json": '{"name": "a web app"}'}])
def test_overwrite_never_removes_what_is_not_ours(tmp_path: Path, make_bundle: Maker, content: dict[str, str]) -> None:
    out = tmp_path / "mine"
    if content:
        out.mkdir()
        for name, text in content.items():
            (out / name).write_text(text)
    else:
        out.write_text("a file")
    with pytest.raises(OutputError, match="is not replaced"):
        make_bundle(out, overwrite=True)
    assert {path.name for path in out.iterdir()} == set(content) if content else out.read_text() == "a file"


def test_overwrite_never_removes_the_folder_one_is_in(
    bundle: Bundle, tmp_path: Path, make_bundle: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (bundle.path, tmp_path / "empty"):
        monkeypatch.chdir(folder)
        with pytest.raises(OutputError, match="current folder"):
            make_bundle(Path(), overwrite=True)
    assert Bundle.open(bundle.path).manifest == bundle.manifest


def test_overwrite_does_not_search_what_is_not_ours(
    tmp_path: Path, make_bundle: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home" / "deep").mkdir(parents=True)

    def walk(*_: object) -> None:
        raise AssertionError("a folder as large as a home was walked through")

    monkeypatch.setattr(os, "walk", walk)
    with pytest.raises(OutputError, match="is not a bundle"):
        make_bundle(tmp_path / "home", overwrite=True)


def test_overwrite_never_removes_a_file_somebody_put_into_a_bundle(bundle: Bundle, make_bundle: Maker) -> None:
    (bundle.path / "sample" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"sample/notes\.txt"):
        make_bundle(bundle.path, overwrite=True)
    assert (bundle.path / "sample" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit, MemoryError])
def test_a_failure_leaves_nothing_behind(tmp_path: Path, failure: type[BaseException]) -> None:
    with pytest.raises(failure):
        fail_half_way(tmp_path / "some" / "new" / "out", failure())
    assert names(tmp_path) == []


def test_a_failure_keeps_the_bundle_it_was_to_replace(bundle: Bundle) -> None:
    with pytest.raises(KeyboardInterrupt), write_bundle(bundle.path, overwrite=True):
        raise KeyboardInterrupt
    assert Bundle.open(bundle.path).manifest == bundle.manifest
    assert names(bundle.path.parent) == ["bundle"]


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_failed_rename_keeps_the_bundle_it_was_to_replace(
    bundle: Bundle, make_bundle: Maker, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    calls, rename = [], Path.rename

    def fail(self: Path, target: Path) -> Path:
        calls.append(self)
        if len(calls) == failing:
            raise OSError(errno.EACCES, "Permission denied", str(self), None, str(target))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    monkeypatch.setattr(replacement, "exchange", lambda first, second: False)  # of systems that have one step for it
    with pytest.raises(OutputError, match="Permission denied"):
        make_bundle(bundle.path, model=b"new", overwrite=True)
    assert Bundle.open(bundle.path).manifest == bundle.manifest
    assert names(bundle.path.parent) == ["bundle"]


def test_an_output_that_appears_meanwhile_is_kept(tmp_path: Path, manifest: Manifest) -> None:
    out = tmp_path / "out"

    def meet() -> None:
        with write_bundle(out) as draft:
            (draft.path / "model.onnx").write_bytes(b"model")
            draft.write_sample(Sample(np.zeros(1), (np.zeros(1),)))
            draft.seal(manifest)
            out.mkdir()

    with pytest.raises(OutputError, match="exists"):
        meet()
    assert names(tmp_path) == ["out"]


def test_a_block_that_does_not_seal_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="did not seal"), write_bundle(tmp_path / "out"):
        pass
    assert names(tmp_path) == []


def test_an_unwritable_place(tmp_path: Path, make_bundle: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be written"):
        make_bundle(tmp_path / "file" / "out")

    def refuse(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(OutputError, match="Permission denied"):
        make_bundle(tmp_path / "out")
    assert names(tmp_path) == ["file"]


def test_an_error_about_another_file_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), write_bundle(tmp_path / "out"):
        (tmp_path / "weights").read_bytes()
    assert names(tmp_path) == []


def test_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="disk is full"):
        fail_half_way(tmp_path / "out", OSError(errno.ENOSPC, "No space left on device"))
    assert names(tmp_path) == []


def test_a_disk_that_really_is_full(small_disk: Path, make_bundle: Maker) -> None:
    kept = make_bundle(small_disk / "kept")
    with pytest.raises(OutputError, match="disk is full"):
        make_bundle(small_disk / "out", model=b"x" * (2 << 20))
    with pytest.raises(OutputError, match="disk is full"), write_bundle(small_disk / "out") as draft:
        draft.write_sample(Sample(np.zeros(1 << 18), (np.zeros(1),)))
    assert names(small_disk) == ["kept"]
    assert Bundle.open(kept.path).labels() == ("cat", "dog", "eel")


def test_resize_size() -> None:
    assert Preprocessing((224, 224)).resize_size == (256, 256)
    assert Preprocessing((192, 256)).resize_size == (219, 292)
    assert Preprocessing((225, 33), crop_pct=1.0).resize_size == (225, 33)


def test_a_manifest_without_resize_and_fill_covers(bundle: Bundle) -> None:
    """As those of before they were there."""
    written = json.loads((bundle.path / "manifest.json").read_text())["preprocessing"]
    edit(bundle, preprocessing={name: value for name, value in written.items() if name not in ("resize", "fill")})
    assert Bundle.open(bundle.path).manifest.preprocessing == bundle.manifest.preprocessing


def test_every_choice_of_preprocessing_is_kept(tmp_path: Path, make_bundle: Maker) -> None:
    steps = Preprocessing(
        (32, 32), 1.0, "lanczos", "BGR", mean=(0.5, 0.5, 0.5), std=(0.1, 0.2, 0.3), resize="letterbox", fill=114
    )
    assert Bundle.open(make_bundle(tmp_path / "out", preprocessing=steps).path).manifest.preprocessing == steps
