"""From a checkpoint to a bundle to an answer, and what happens when something is wrong on the way."""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import evm_deploy
from evm_deploy import Bundle, EfficientVMamba, ExportOptions
from evm_deploy.cli import main
from evm_deploy.errors import BundleError, CheckFailed, CheckpointError, InputError, OptionError
from evm_deploy.files import sha256_file
from evm_deploy.runtimes.onnxruntime import OnnxRunner
from evm_deploy.scan import native

OPTIONS = ExportOptions(image_size=(64, 64))
NAMES = [f"digit {i}" for i in range(10)]


@pytest.fixture(scope="module")
def checkpoint(two_stages: Callable[..., EfficientVMamba], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "small.safetensors"
    save_file(two_stages(blocks=("inres", "evss")).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def bundle(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A labelled bundle of a small network, exported once."""
    folder = tmp_path_factory.mktemp("bundle")
    labels = folder / "names.txt"
    labels.write_text("\n".join(NAMES))
    options = dataclasses.replace(OPTIONS, labels=labels, images=picture(folder / "picture.png"))
    result = evm_deploy.export(checkpoint, folder / "small", options)
    assert result.report is not None
    assert result.report.passed
    return result.bundle.path


def picture(path: Path, seed: int = 0) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def left_behind(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_the_bundle_says_what_it_is(bundle: Path, checkpoint: Path) -> None:
    opened = Bundle.open(bundle)
    manifest = opened.manifest
    assert (manifest.task, manifest.target, manifest.precision) == ("classification", "onnx", "fp32")
    assert manifest.checkpoint.file == checkpoint.name
    assert manifest.model["dims"] == [16, 24]
    assert opened.labels() == tuple(NAMES)
    session_inputs = onnx.load(opened.model_path).graph.input
    assert [value.name for value in session_inputs] == [spec.name for spec in manifest.inputs]
    report = manifest.parity
    assert report is not None
    assert report["passed"]
    runtimes = {row["runtime"] for row in report["rows"]}
    assert len(runtimes) == 2 if native.available() else 1
    assert {row["input"] for row in report["rows"]} == {"random 1x64x64", "picture.png"}


def test_the_golden_pair_is_what_the_model_gives(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    sample = opened.sample()
    with OnnxRunner(opened.model_path, library=False) as runner:
        np.testing.assert_allclose(runner.run(sample.input)[0], sample.outputs[0], atol=1e-4)


def test_verify(bundle: Path, checkpoint: Path, tmp_path: Path) -> None:
    assert evm_deploy.verify(bundle).passed
    report = evm_deploy.verify(bundle, checkpoint=checkpoint, images=picture(tmp_path / "a.png"))
    assert report.passed
    assert {row.input for row in report.rows} == {"random 1x64x64", "a.png"}


def test_verify_needs_the_right_checkpoint(bundle: Path, checkpoint: Path, tmp_path: Path) -> None:
    weights = load_file(checkpoint)
    weights["classifier.head.bias"] += 1
    save_file(weights, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="is not the checkpoint"):
        evm_deploy.verify(bundle, checkpoint=tmp_path / "other.safetensors")
    with pytest.raises(OptionError, match="PyTorch"):
        evm_deploy.verify(bundle, images=tmp_path)


def test_predict_gives_what_pytorch_gives(bundle: Path, checkpoint: Path, tmp_path: Path) -> None:
    from evm_deploy.images import load_image
    from evm_deploy.preprocessing import preprocess

    image = picture(tmp_path / "b.png", seed=1)
    batch = preprocess(load_image(image), Bundle.open(bundle).manifest.preprocessing)
    with torch.inference_mode():
        scores = evm_deploy.load(checkpoint)(torch.from_numpy(batch)).softmax(-1)[0]
    for library in (True, False):
        (found,) = evm_deploy.predict(bundle, [image], top=3, library=library)
        best = scores.topk(3)
        assert [name for name, _ in found.top] == [NAMES[i] for i in best.indices]
        assert [share for _, share in found.top] == pytest.approx(best.values.tolist(), abs=1e-5)


def test_predict_takes_folders(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    images = [picture(tmp_path / "folder" / f"{name}.png", seed=1) for name in "ba"]
    (tmp_path / "folder" / "notes.txt").write_text("no image")
    found = evm_deploy.predict(bundle, [tmp_path / "folder", images[0]], top=1)
    assert [one.image for one in found] == [images[1], images[0], images[0]]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="there are no images in"):
        evm_deploy.predict(bundle, [images[0], tmp_path / "empty"])


def test_a_backbone_makes_a_bundle_but_no_predictions(exported: Callable[..., Bundle], tmp_path: Path) -> None:
    bundle = exported("backbone_micro")
    assert evm_deploy.verify(bundle.path).passed
    assert [spec.shape for spec in bundle.manifest.outputs][1] == (1, 32, 8, 8)
    with pytest.raises(BundleError, match="backbone"):
        evm_deploy.predict(bundle.path, [picture(tmp_path / "c.png")])


def test_a_wrong_artifact_does_not_become_a_bundle(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exporter with a fault in one block: the gate refuses, and says in which block it begins."""
    from evm_deploy.models import checkpoint as checkpoint_module
    from evm_deploy.models.efficientvmamba import FAMILY

    def faulty(model: EfficientVMamba) -> EfficientVMamba:
        folded = FAMILY.fold(model)
        folded.layers[1].blocks[0].op.out_norm.bias.data += 0.1  # type: ignore[union-attr, index]
        return folded

    monkeypatch.setattr(checkpoint_module, "FAMILIES", (dataclasses.replace(FAMILY, fold=faulty),))
    with pytest.raises(CheckFailed, match=r"layers\.1\.blocks\.0"):
        evm_deploy.export(checkpoint, tmp_path / "out", OPTIONS)
    assert left_behind(tmp_path) == []
    unchecked = dataclasses.replace(OPTIONS, verify=False)
    assert evm_deploy.export(checkpoint, tmp_path / "out", unchecked).report is None
    report = evm_deploy.verify(tmp_path / "out", checkpoint=checkpoint)
    assert not report.passed
    assert main(["verify", str(tmp_path / "out")]) == 1


def test_a_network_without_classes_in_the_labels(checkpoint: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("one\ntwo\n")
    with pytest.raises(InputError, match="2 names on 2 lines; the model has 10 classes"):
        evm_deploy.export(checkpoint, tmp_path / "out", dataclasses.replace(OPTIONS, labels=labels))
    labels.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        evm_deploy.export(checkpoint, tmp_path / "out", dataclasses.replace(OPTIONS, labels=labels))
    assert left_behind(tmp_path) == ["labels.txt"]


def test_labels_as_windows_writes_them(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(NAMES).encode())
    options = dataclasses.replace(OPTIONS, labels=str(tmp_path / "labels.txt"), verify=False)
    result = evm_deploy.export(str(checkpoint), str(tmp_path / "out"), options)
    assert result.bundle.labels() == tuple(NAMES)
    image = picture(tmp_path / "a.png")
    assert evm_deploy.predict(str(tmp_path / "out"), str(image)) == evm_deploy.predict(tmp_path / "out", [image])


def test_a_network_whose_values_are_not_finite(two_stages: Callable[..., EfficientVMamba], tmp_path: Path) -> None:
    weights = two_stages().state_dict()
    weights["layers.0.blocks.0.conv_branch.1.running_var"].neg_()
    save_file(weights, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="values that are not finite"):
        evm_deploy.export(tmp_path / "a.safetensors", tmp_path / "out", OPTIONS)
    assert left_behind(tmp_path) == ["a.safetensors"]


# A model in the place of the exported one, with its hash put right


def swapped(bundle: Path, out: Path, graph: onnx.GraphProto, **changes: Any) -> Path:
    """A copy of `bundle` whose model is `graph` and whose manifest has `changes`."""
    shutil.copytree(bundle, out)
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    (out / "model.onnx").write_bytes(proto.SerializeToString())
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["files"]["model.onnx"] = sha256_file(out / "model.onnx")
    (out / "manifest.json").write_text(json.dumps(manifest | changes))
    return out


def summing(
    image: str = "image", logits: str = "logits", size: int = 64, classes: int = 10, to: int = onnx.TensorProto.FLOAT
) -> onnx.GraphProto:
    """Every class gets the sum of the image, reshaped to (1, classes); by default it has the interface of `bundle`."""
    node, info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    nodes = [
        node("ReduceSum", [image], ["sum"], keepdims=0),
        node("Cast", ["sum"], ["cast"], to=to),
        node("Expand", ["cast", "shape"], [logits]),
    ]
    inputs = [info(image, onnx.TensorProto.FLOAT, (1, 3, size, size))]
    shape = onnx.numpy_helper.from_array(np.array([1, classes]), "shape")
    return onnx.helper.make_graph(nodes, "summing", inputs, [info(logits, to, None)], [shape])


@pytest.mark.parametrize(
    ("graph", "changes", "said"),
    [
        (summing(image="picture"), {}, "not what its manifest says"),
        (summing(logits="scores"), {}, "not what its manifest says"),
        (summing(to=onnx.TensorProto.INT64), {}, "not what its manifest says"),
        (onnx.helper.make_graph([], "empty", [], []), {}, "cannot load|not what its manifest says"),
        (summing(size=32), {}, "cannot run the model on float32"),
        (summing(classes=7), {}, "has shape|gives no scores"),
        (summing(), {"target": "other"}, "target 'other' is not known"),
    ],
)
def test_another_model_is_one_clear_error(
    bundle: Path, tmp_path: Path, graph: onnx.GraphProto, changes: dict[str, Any], said: str
) -> None:
    changed = swapped(bundle, tmp_path / "out", graph, **changes)
    with pytest.raises(BundleError, match=said):
        evm_deploy.verify(changed)
    with pytest.raises(BundleError, match=said):
        evm_deploy.predict(changed, [picture(tmp_path / "a.png")])


def test_another_model_of_the_same_interface_fails_the_check(bundle: Path, checkpoint: Path, tmp_path: Path) -> None:
    changed = swapped(bundle, tmp_path / "out", summing())
    assert not evm_deploy.verify(changed).passed
    assert not evm_deploy.verify(changed, checkpoint=checkpoint).passed


def test_the_network_of_other_widths_is_told_at_its_first_block(
    bundle: Path, checkpoint: Path, two_stages: Callable[..., EfficientVMamba], tmp_path: Path
) -> None:
    save_file(two_stages(dims=(8, 24), blocks=("inres", "evss")).state_dict(), tmp_path / "b.safetensors")
    unverified = dataclasses.replace(OPTIONS, verify=False)
    other = evm_deploy.export(tmp_path / "b.safetensors", tmp_path / "other", unverified)
    changed = swapped(bundle, tmp_path / "out", summing())
    shutil.copy(other.bundle.model_path, changed / "model.onnx")
    manifest = json.loads((changed / "manifest.json").read_text())
    manifest["files"]["model.onnx"] = sha256_file(changed / "model.onnx")
    (changed / "manifest.json").write_text(json.dumps(manifest))
    report = evm_deploy.verify(changed, checkpoint=checkpoint)
    assert not report.passed
    assert "shape" in (report.first_divergent_block or "")


def test_a_precision_of_a_later_version(bundle: Path, tmp_path: Path) -> None:
    changed = swapped(bundle, tmp_path / "out", summing(), precision="fp4")
    with pytest.raises(BundleError, match="precision 'fp4' is not known"):
        evm_deploy.verify(changed)


BAD_FILES: dict[str, Callable[[Path, bytes], None]] = {
    "missing": lambda path, data: None,
    "folder": lambda path, data: path.mkdir(),
    "empty": lambda path, data: path.touch(),
    "truncated": lambda path, data: (path.write_bytes(data[: len(data) // 2]), None)[1],
    "text": lambda path, data: (path.write_text("hello"), None)[1],
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_checkpoint_is_one_clear_line(
    kind: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "weights.safetensors"
    BAD_FILES[kind](path, checkpoint.read_bytes())
    before = left_behind(tmp_path)
    assert main(["export", str(path), "--out", str(tmp_path / "out"), "--image-size", "64"]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "weights.safetensors" in errors[0]
    assert left_behind(tmp_path) == before


def test_which_of_two_networks_is_said_everywhere(
    two_stages: Callable[..., EfficientVMamba], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the refusal, on the terminal, in the parity report, in the manifest, and by `inspect`."""
    weights = two_stages().state_dict()
    average = {name: 0.5 * tensor if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
    path = tmp_path / "both.pth"
    torch.save({"model": weights, "model_ema": average, "epoch": 7}, path)
    command = ["export", str(path), "--image-size", "64", "--out", str(tmp_path / "out")]
    assert main(command) == 2
    assert "different weights: model (epoch 7); model_ema." in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()
    assert main([*command, "--key", "model_ema"]) == 0
    assert "the weights are those under model_ema in both.pth" in capsys.readouterr().out
    manifest = Bundle.open(tmp_path / "out").manifest
    assert manifest.checkpoint.key == "model_ema"
    assert manifest.parity is not None
    assert "the weights are those under model_ema in both.pth" in manifest.parity["notes"]
    assert main(["verify", str(tmp_path / "out"), "--checkpoint", str(path)]) == 0
    capsys.readouterr()
    assert main(["inspect", str(path)]) == 0
    assert "model (epoch 7)" in capsys.readouterr().out
    assert main(["inspect", str(path), "--key", "model"]) == 0
    assert "weights_under" in capsys.readouterr().out


def test_what_is_ignored_is_said(two_stages: Callable[..., EfficientVMamba], tmp_path: Path) -> None:
    torch.save({"model": two_stages().state_dict() | {"total_ops": torch.zeros(1)}}, tmp_path / "small.pth")
    options = dataclasses.replace(OPTIONS, verify=False)
    result = evm_deploy.export(tmp_path / "small.pth", tmp_path / "out", options)
    assert result.notes == ("ignored in the checkpoint: 1 entry (total_ops)",)


@pytest.mark.parametrize(
    "arguments",
    [["--image-size", "0"], ["--image-size=-64"], ["--image-size", "7"], ["--precision", "int3"], ["--key", "nothing"]],
)
def test_a_bad_option_leaves_nothing(checkpoint: Path, tmp_path: Path, arguments: list[str]) -> None:
    assert main(["export", str(checkpoint), "--out", str(tmp_path / "out"), *arguments]) == 2
    assert left_behind(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="sends a POSIX signal")
def test_an_interrupt_in_the_middle_leaves_nothing(checkpoint: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "evm_deploy", "export", str(checkpoint), "--out", str(tmp_path / "out")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("exporting"):
            break
    while process.poll() is None:  # Python loses an interrupt within a callback whose errors it ignores: again, then
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=2)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 130, rest
    assert left_behind(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no names that are not UTF-8")
def test_names_that_are_not_utf8(
    checkpoint: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of what is read they are recorded with escapes; where a result would have one, it is refused before the work."""
    bad = os.fsdecode(b"caf\xe9")
    (tmp_path / bad).mkdir()
    for seed, name in enumerate((b"caf\xe9.png", b"caf\xe8.png")):
        picture(tmp_path / bad / os.fsdecode(name), seed)
    report = evm_deploy.verify(bundle, checkpoint=checkpoint, images=tmp_path / bad)
    assert {row.input for row in report.rows} == {"random 1x64x64", "caf%E9.png", "caf%E8.png"}
    named = shutil.copy(checkpoint, tmp_path / f"{bad}\\.safetensors")
    made = evm_deploy.export(named, tmp_path / "out", dataclasses.replace(OPTIONS, verify=False)).bundle
    assert made.manifest.checkpoint.file == "caf%E9%5C.safetensors"
    assert main(["export", "none.pth", "--out", str(tmp_path / bad / "out")]) == 2
    assert "is not UTF-8: libraries cannot write there" in capsys.readouterr().err
    shutil.copytree(bundle, tmp_path / bad / "bundle")
    assert main(["predict", str(tmp_path / bad / "bundle"), str(tmp_path / bad / os.fsdecode(b"caf\xe9.png"))]) == 2
    assert "is not UTF-8: no runtime opens it" in capsys.readouterr().err
    assert main(["predict", str(bundle), str(tmp_path / bad / os.fsdecode(b"caf\xe9.png"))]) == 0
    capsys.readouterr().out.encode()


def test_json_for_machines(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = picture(tmp_path / "d.png")
    assert main(["predict", str(bundle), str(image), "--json", "--top", "2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["bundle"] == str(bundle)
    assert len(found["predictions"][0]["top"]) == 2


def test_a_weight_that_float16_cannot_hold(golden: Any, tmp_path: Path) -> None:
    weights = golden.state_dict("micro")
    weights["classifier.head.weight"][0, 0] = 1e5
    save_file(weights, tmp_path / "large.safetensors")
    options = dataclasses.replace(OPTIONS, precision="fp16", verify=False)
    with pytest.raises(CheckpointError, match=r"classifier\.head\.weight is too large for float16"):
        evm_deploy.export(tmp_path / "large.safetensors", tmp_path / "out", options)
    assert left_behind(tmp_path) == ["large.safetensors"]


def test_softmax_of_a_backbone(golden: Any, tmp_path: Path) -> None:
    save_file(golden.state_dict("backbone_micro"), tmp_path / "backbone.safetensors")
    options = dataclasses.replace(OPTIONS, softmax=True)
    with pytest.raises(OptionError, match="backbone has no scores"):
        evm_deploy.export(tmp_path / "backbone.safetensors", tmp_path / "out", options)


def test_scores_that_are_called_probabilities_and_are_none(bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["outputs"][0]["meaning"] = "probabilities"
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="gives no scores"):
        evm_deploy.predict(copy, picture(tmp_path / "picture.png"))


@pytest.mark.parametrize(
    "changes",
    [{"author": "\udcff"}, {"author": 5}, {"compute_capabilities": "8.6"}, {"compute_capabilities": (8.6,)},
     {"more_sizes": None}],
)  # fmt: skip
def test_options_of_the_wrong_kind(changes: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        ExportOptions(target="tensorrt" if "compute_capabilities" in changes else "coreml", **changes)
