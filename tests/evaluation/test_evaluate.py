"""An evaluation of models whose answers are known, in one process."""

import csv
import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import evm_deploy
from evm_deploy import EvaluateOptions, ExportOptions, cli
from evm_deploy.bundle import IOSpec, Preprocessing
from evm_deploy.errors import BundleError, CheckpointError, EvmDeployError, InputError, OptionError, OutputError
from evm_deploy.evaluation import report_folder
from evm_deploy.evaluation.contenders import read_contenders
from evm_deploy.evaluation.report import EvaluationReport

Colours = Callable[..., Path]
QUICK = EvaluateOptions(latency_runs=0)


@pytest.fixture
def right(colours: Colours) -> Path:
    return colours("right")


@pytest.fixture
def blind(colours: Colours) -> Path:
    """An int8 bundle that takes blue for green."""
    return colours("blind", np.array([[1, -1, 0], [-1, 1, 0], [-1, 1, 0]]), precision="int8")


@pytest.fixture
def report(right: Path, blind: Path, pictures: Path) -> EvaluationReport:
    return evm_deploy.evaluate([right, blind], pictures, EvaluateOptions(latency_runs=2))


def plain(pictures: Path) -> Path:
    """The red ones, without saying that they are."""
    return pictures / "red"


# figures


def test_figures_by_hand(report: EvaluationReport, right: Path) -> None:
    one, other = report.rows
    assert one.top1
    assert other.top1
    assert (one.top1.value, other.top1.value) == (1.0, 7 / 9)
    assert one.confusion is not None
    assert one.confusion.tolist() == np.diag([4, 3, 2]).tolist()
    assert other.confusion is not None
    assert other.confusion.tolist() == [[4, 0, 0], [0, 3, 0], [0, 2, 0]]
    assert other.per_class == (1.0, 1.0, 0.0)
    assert other.agreement
    assert other.agreement.value == 7 / 9
    assert other.change
    assert (other.change.lost, other.change.won) == (2, 0)
    assert other.change.value == pytest.approx(-2 / 9)
    assert (report.images, report.labelled, report.class_images) == (9, 9, (4, 3, 2))
    assert report.classes == ("red", "green", "blue")
    assert report.passed


def test_the_first_float_bundle_is_the_reference_wherever_it_stands(right: Path, blind: Path, pictures: Path) -> None:
    report = evm_deploy.evaluate([blind, right], pictures, QUICK)
    assert report.reference == report.rows[1].title
    assert str(right) in report.reference
    assert report.rows[1].agreement is None
    assert report.rows[0].change
    assert report.rows[0].change.lost == 2


def test_what_cannot_be_measured_is_absent(right: Path, blind: Path, pictures: Path) -> None:
    report = evm_deploy.evaluate([right, blind], plain(pictures), QUICK)
    row = report.rows[1]
    assert (row.top1, row.top5, row.change, row.per_class, row.confusion, row.latency) == (None,) * 6
    assert row.agreement
    assert row.agreement.value == 1.0
    assert any("4 of 4 images have no label" in note for note in report.notes)
    alone = evm_deploy.evaluate(blind, pictures, QUICK)
    assert (alone.reference, alone.rows[0].agreement, alone.rows[0].change) == (None, None, None)
    assert any("float32" in note for note in alone.notes)


def test_compressed_weights_are_no_reference(colours: Colours, blind: Path, pictures: Path) -> None:
    compressed = colours("compressed", build={"weights": "int8"})
    assert evm_deploy.evaluate([compressed, blind], pictures, QUICK).reference is None


def test_top5_of_more_classes(colours: Colours, pictures: Path) -> None:
    """Of the red ones red is sixth; of the green ones green is fifth. Weights that give these orders are solved for."""
    means = np.array([[0.62, -0.98], [-1.1, 0.76]])  # of red and green pictures, normalised: red, green
    weights = np.zeros((3, 6))
    weights[:2] = np.linalg.solve(means, [[0, 1, 2, 3, 4, 5], [2, 1, 0, 3, 4, 5]])
    report = evm_deploy.evaluate(colours("six", weights, labels=None), listed(pictures), QUICK)
    assert report.rows[0].top5
    assert report.rows[0].top5.value == 3 / 7


def listed(pictures: Path) -> Path:
    """The red and the green ones by the index of their class, in a list."""
    lines = [
        f"{path.relative_to(pictures)} {index}"
        for index, name in enumerate(("red", "green"))
        for path in sorted((pictures / name).glob("*"))
    ]
    (pictures / "list.txt").write_text("\n".join(lines))
    return pictures / "list.txt"


def test_latency_is_measured_in_turns(report: EvaluationReport) -> None:
    for row in report.rows:
        assert row.latency
        assert 0 < row.latency.low <= row.latency.median <= row.latency.high
        assert row.latency.runs == 2
    assert report.conditions["cores"]


def test_each_preprocesses_for_itself(colours: Colours, right: Path, pictures: Path) -> None:
    other = colours("narrow", preprocessing=Preprocessing((32, 32), crop_pct=0.5))
    report = evm_deploy.evaluate([right, other], pictures, QUICK)
    assert [row.top1.value for row in report.rows if row.top1] == [1.0, 1.0]


def test_what_they_do_differently_to_an_image_is_said(colours: Colours, right: Path) -> None:
    other = colours("bgr", preprocessing=Preprocessing((32, 32), 0.5, channels="BGR"))
    notes = read_contenders([right, other], QUICK).notes
    assert [note.rpartition(": ")[2] for note in notes if "prepare images differently" in note] == [
        "crop_pct 0.875 and 0.5",
        "channels RGB and BGR",
    ]
    assert not any("differently" in note for note in read_contenders([right, colours("same")], QUICK).notes)


def test_pytorch_prepares_as_its_checkpoint_says_where_no_bundle_is_made_from_it(
    golden: Any, colours: Colours, tmp_path: Path
) -> None:
    said = {"crop_pct": 1.0, "crop_mode": "squash", "interpolation": "hamming"}
    torch.save({"model": golden.state_dict("micro"), "args": said}, tmp_path / "micro.pth")
    stranger = colours("stranger", np.ones((3, 10)), labels=None, preprocessing=Preprocessing((32, 32), 0.5))
    found = read_contenders([stranger], EvaluateOptions(checkpoint=tmp_path / "micro.pth"))
    assert found.contenders[0].preprocessing == Preprocessing((32, 32), 1.0, resize="squash")
    assert found.contenders[1].preprocessing == Preprocessing((32, 32), 0.5)
    assert any("hamming" in note for note in found.notes)


def test_an_image_that_one_of_them_cannot_take_is_left_out_for_all(
    colours: Colours, right: Path, pictures: Path
) -> None:
    """One so narrow that only the smaller cover of the two is below the limit of pixels."""
    Image.new("RGB", (20_000, 1)).save(pictures / "blue" / "9.png")
    other = colours("narrow", preprocessing=Preprocessing((32, 32), crop_pct=0.5))
    for bundles in ([right, other], [other, right]):
        assert evm_deploy.evaluate(bundles, pictures, QUICK).class_images == (4, 3, 2)


def test_arrays_of_a_generator_serve_every_preprocessing(colours: Colours, right: Path) -> None:
    other = colours("narrow", preprocessing=Preprocessing((32, 32), crop_pct=0.5))
    arrays = ((np.full((40, 40, 3), np.eye(3)[label] * 200, np.uint8), label) for label in (2, 0, 1, 1))
    report = evm_deploy.evaluate([right, other], arrays, QUICK)
    assert [row.top1.value for row in report.rows if row.top1] == [1.0, 1.0]
    assert report.class_images == (1, 2, 1)


def test_pytorch_beside_bundles_of_its_checkpoint_and_of_another(
    golden: Any, colours: Colours, pictures: Path, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "micro.safetensors"
    save_file(golden.state_dict("micro"), checkpoint)
    options = ExportOptions(image_size=(32, 32), bake_preprocessing=True, verify=False)
    evm_deploy.export(checkpoint, tmp_path / "micro", options)
    stranger = colours("stranger", np.ones((3, 10)), labels=None)
    with_pytorch = EvaluateOptions(checkpoint=checkpoint, floor=1, latency_runs=1)
    report = evm_deploy.evaluate([stranger, tmp_path / "micro"], listed(pictures), with_pytorch)
    pytorch, _, bundle = report.rows
    assert (pytorch.title, report.reference) == ("PyTorch", "PyTorch")
    assert bundle.agreement
    assert bundle.agreement.value == 1.0
    assert bundle.top1 == pytorch.top1
    assert [str(stranger) in note for note in report.notes if "another checkpoint" in note] == [True]
    assert not any("PyTorch" in failure for failure in report.failures)  # bundles are on trial
    assert len(report.failures) == 2
    with pytest.raises(InputError, match="not a file"):
        evm_deploy.evaluate(tmp_path / "micro", pictures, EvaluateOptions(checkpoint=tmp_path / "none"))


def test_which_network_of_a_checkpoint(golden: Any, colours: Colours, pictures: Path, tmp_path: Path) -> None:
    weights = golden.state_dict("micro")
    other = {name: t + 0.01 if t.is_floating_point() else t for name, t in weights.items()}
    torch.save({"model": weights, "model_ema": other}, tmp_path / "two.pth")
    bundle = colours("ten", np.ones((3, 10)), labels=None)
    options = EvaluateOptions(checkpoint=tmp_path / "two.pth", latency_runs=0)
    with pytest.raises(CheckpointError, match="--key model or --key model_ema"):
        evm_deploy.evaluate(bundle, plain(pictures), options)
    report = evm_deploy.evaluate(bundle, plain(pictures), dataclasses.replace(options, key="model_ema"))
    assert "PyTorch: the weights are those under model_ema in two.pth" in report.notes
    with pytest.raises(OptionError, match="a key is of a checkpoint"):
        EvaluateOptions(key="model")


def test_damaged_images_are_left_out_for_all(colours: Colours, right: Path, pictures: Path) -> None:
    (pictures / "red" / "9.png").write_bytes(b"none")
    (pictures / "red" / "notes.txt").write_text("none")
    report = evm_deploy.evaluate([right, colours("same")], pictures, QUICK)
    assert report.images == 9
    assert report.data["skipped"] == ["red/9.png"]
    assert any("red/9.png" in note for note in report.notes)
    assert any("red/notes.txt" in note for note in report.notes)


def test_a_sample_is_the_same_every_time(right: Path, pictures: Path) -> None:
    options = EvaluateOptions(count=6, seed=1, latency_runs=0)
    first, second = (evm_deploy.evaluate(right, pictures, options) for _ in range(2))
    assert first.images == 6
    assert first.data == second.data


def test_every_way(colours: Colours, pictures: Path) -> None:
    bundle = colours("ways", scan_form="operator")
    report = evm_deploy.evaluate(bundle, pictures, EvaluateOptions(every_way=True, latency_runs=0))
    assert report.rows[0].runtime == "onnxruntime"
    assert len({row.runtime for row in report.rows}) == len(report.rows)
    assert report.reference == report.rows[0].title


# a floor


@pytest.mark.parametrize(
    ("floor", "drop", "failed"), [(0.7, None, 0), (7 / 9, 22.3, 0), (0.78, None, 1), (None, 22.2, 1)]
)
def test_a_floor(right: Path, blind: Path, pictures: Path, floor: float, drop: float, failed: int) -> None:
    report = evm_deploy.evaluate([right, blind], pictures, EvaluateOptions(floor=floor, max_drop=drop, latency_runs=0))
    assert len(report.failures) == failed
    assert report.passed is (failed == 0)
    assert all(str(blind) in failure for failure in report.failures)


def test_a_floor_needs_labels_and_a_drop_a_float_model(right: Path, blind: Path, pictures: Path) -> None:
    with pytest.raises(InputError, match="class"):
        evm_deploy.evaluate(right, plain(pictures), EvaluateOptions(floor=0.5))
    with pytest.raises(InputError, match="float32"):
        evm_deploy.evaluate(blind, pictures, EvaluateOptions(max_drop=1))


# the command


def test_the_command(right: Path, blind: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate", str(right), str(blind), "--data", str(pictures), "--latency-runs", "1"]
    assert cli.main([*command, "--per-class"]) == 0
    text = capsys.readouterr().out
    assert "77.78 [" in text
    assert "-22.22 [" in text
    assert "9 images" in text
    assert "blue" in text
    assert cli.main([*command, "--floor", "0.9", "--json"]) == 1
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert found["passed"] is False
    assert found["rows"][1]["confusion"] == [[0, 0, 4], [1, 1, 3], [2, 1, 2]]
    assert found["rows"][1]["top1"]["value"] == 7 / 9
    assert "below 90.00%" in captured.err
    assert str(right) not in captured.err


def test_the_report_as_a_folder(right: Path, blind: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "made" / "report"
    report = evm_deploy.evaluate([right, blind], pictures, EvaluateOptions(out=out, latency_runs=0))
    assert json.loads((out / report_folder.JSON).read_text())["images"] == 9
    with (out / "confusion_1.csv").open(newline="") as file:
        assert list(csv.reader(file))[3] == ["blue", "0", "2", "0"]
    with (out / report_folder.CLASSES).open(newline="") as file:
        assert list(csv.reader(file))[3] == ["blue", "2", "1.000000", "0.000000"]
    assert [path.name for path in out.parent.iterdir()] == ["report"]
    assert report.rows[0].confusion is not None


def test_a_report_that_cannot_be_written(
    right: Path, pictures: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (small_disk / "ballast").write_bytes(bytes(900_000))
    monkeypatch.setattr(report_folder, "dumps", lambda value: "x" * 500_000)
    with pytest.raises(OutputError, match="the disk is full"):
        evm_deploy.evaluate(right, pictures, EvaluateOptions(out=small_disk / "report", latency_runs=0))
    assert [path.name for path in small_disk.iterdir()] == ["ballast"]
    with pytest.raises(OutputError, match="exists"):
        evm_deploy.evaluate(right, "nothing", EvaluateOptions(out=small_disk))


# what cannot be compared


def test_a_report_on_a_full_disk_leaves_no_folders(small_disk: Path, right: Path, pictures: Path) -> None:
    small_disk.joinpath("full").write_bytes(b"x" * (1 << 20))
    with pytest.raises(OutputError, match="the disk is full"):
        evm_deploy.evaluate(right, pictures, dataclasses.replace(QUICK, out=small_disk / "new" / "er" / "out"))
    assert [path.name for path in small_disk.iterdir()] == ["full"]


def test_models_of_other_classes(colours: Colours, right: Path, pictures: Path) -> None:
    more = colours("more", np.ones((3, 4)), labels=None)
    with pytest.raises(InputError, match=r"3 classes, .*more 4"):
        evm_deploy.evaluate([right, more], pictures)
    renamed = colours("renamed", labels=("blue", "green", "red"))
    with pytest.raises(InputError, match="different labels"):
        evm_deploy.evaluate([right, renamed], pictures)


def test_a_backbone_has_no_accuracy(colours: Colours, pictures: Path) -> None:
    maps = (IOSpec("logits", (1, 3), "float32", "NC", "features"),)
    with pytest.raises(BundleError, match="backbone"):
        evm_deploy.evaluate(colours("maps", task="backbone", outputs=maps), pictures)


def test_classes_that_the_model_does_not_have(colours: Colours, right: Path, pictures: Path) -> None:
    (pictures / "red").rename(pictures / "rad")
    with pytest.raises(InputError, match="'rad'"):
        evm_deploy.evaluate(right, pictures)
    two = colours("two", np.ones((3, 2)), labels=None)
    with pytest.raises(InputError, match="class 2, the bundles have classes 0 to 1"):
        evm_deploy.evaluate(two, [(np.zeros((40, 40, 3), np.uint8), 2)])
    with pytest.raises(InputError, match="names 3 classes; the model has 2"):
        evm_deploy.evaluate(two, pictures)


def test_labels_that_are_not_one_for_each_class(colours: Colours, pictures: Path) -> None:
    for labels in (("red", "green"), ("red", "green", "blue", "grey")):
        with pytest.raises(BundleError, match=f"{len(labels)} labels for 3 classes"):
            evm_deploy.evaluate(colours("odd", labels=labels), pictures, QUICK)


def test_the_order_of_some_classes_is_not_that_of_all(colours: Colours, pictures: Path) -> None:
    nameless = colours("nameless", labels=None)
    assert evm_deploy.evaluate(nameless, pictures, QUICK).labelled == 9  # blue, green, red: as many as it has
    shutil.rmtree(pictures / "blue")  # green would be 0 now, and red 1
    with pytest.raises(InputError, match="names 2 classes; the model has 3"):
        evm_deploy.evaluate(nameless, pictures, QUICK)
    (pictures / "green").rename(pictures / "1")
    (pictures / "red").rename(pictures / "0")
    report = evm_deploy.evaluate(nameless, pictures, QUICK)
    assert report.rows[0].top1
    assert report.rows[0].top1.value == 1


def test_the_order_of_classes_that_was_assumed(colours: Colours, right: Path, pictures: Path) -> None:
    assert evm_deploy.evaluate(right, pictures, QUICK).assumed_order is None
    report = evm_deploy.evaluate(colours("nameless", labels=None), pictures, QUICK)
    assert report.assumed_order is not None
    assert "0: blue, 1: green, 2: red" in report.assumed_order
    assert report.notes[0] == report.assumed_order
    assert report.to_dict()["assumed_order"] == report.assumed_order
    assert report.rows[0].better_order is None  # nine images decide nothing


def test_another_order_of_classes_is_warned_of(
    colours: Colours, right: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The network has red, green, blue, and no labels; its folders are read as blue, green, red."""
    images = [(np.full((40, 40, 3), 200 * np.eye(3)[index], np.uint8), index) for index in (0, 1, 2) for _ in range(12)]
    for number, (image, index) in enumerate(images):
        path = tmp_path / "data" / ("red", "green", "blue")[index] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    command = ["evaluate", str(colours("nameless", labels=None)), "--data", str(tmp_path / "data"), "--json"]
    assert cli.main([*command, "--latency-runs", "0"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rows"][0]["better_order"] == {"outputs": [2, 1, 0], "top1": 1.0, "taken": 1 / 3}
    assert (
        "seem to stand in another order: blue is output 2, red is output 0; in it top-1 is 100.0%" in found["notes"][1]
    )
    assert evm_deploy.evaluate(right, tmp_path / "data", QUICK).rows[0].better_order is None


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_not_finite(colours: Colours, pictures: Path, bad: float) -> None:
    with pytest.raises(BundleError, match="gives no scores for"):
        evm_deploy.evaluate(colours("nan", np.full((3, 3), bad)), pictures)


def test_a_model_with_another_shape_than_it_says(colours: Colours, pictures: Path) -> None:
    outputs = (IOSpec("logits", (1, 3), "float32", "NC", "logits"),)
    with pytest.raises(BundleError, match="gives no scores for"):
        evm_deploy.evaluate(colours("four", np.ones((3, 4)), outputs=outputs), pictures)


def test_a_bundle_twice_or_none(right: Path, pictures: Path) -> None:
    with pytest.raises(OptionError, match="twice"):
        evm_deploy.evaluate([right, right.parent / "." / right.name], pictures)
    with pytest.raises(OptionError, match="no bundle"):
        evm_deploy.evaluate([], pictures)


@pytest.mark.parametrize(
    "options",
    [
        {"floor": 90},
        {"floor": -0.1},
        {"floor": float("nan")},
        {"max_drop": -1},
        {"max_drop": 101},
        {"count": 0},
        {"workers": 0},
        {"workers": 2, "shards": 0},
        {"shards": 2},
        {"workers": 1_000_000},
        {"workers": 2, "cluster": "tcp://x:1"},
        {"cluster": ""},
        {"cluster": "x"},
        {"cluster": "nonsense://x"},
        {"cluster": "http://x:1"},
        {"cluster": "tcp://[::1"},
        {"seed": -1},
        {"latency_runs": -1},
        {"every_way": True, "library": False},
    ],
)
def test_options_that_are_none(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        EvaluateOptions(**options)


def test_every_failure_is_one_of_ours(right: Path, tmp_path: Path) -> None:
    for data in ("nothing", tmp_path / "nothing", "random:0"):
        with pytest.raises(EvmDeployError):
            evm_deploy.evaluate(right, data)
