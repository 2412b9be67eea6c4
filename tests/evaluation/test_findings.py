"""Detectors and segmenters against annotations: their figures are those of the libraries that people compare with."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import evm_deploy
from evm_deploy import EvaluateOptions, cli
from evm_deploy.bundle import Manifest, Preprocessing, Sample, write_bundle
from evm_deploy.errors import EvmDeployError, InputError, MissingToolError, OptionError
from evm_deploy.showing.masks import encode_mask
from evm_deploy.tasks import TASKS

coco, cocoeval = (pytest.importorskip(f"pycocotools.{name}") for name in ("coco", "cocoeval"))
QUICK = EvaluateOptions(latency_runs=0)
LABELS = ("disc", "ring")
BOXES = np.array([[2, 2, 14, 14], [3, 2, 14, 15], [16, 16, 30, 30], [0, 20, 9, 31]], np.float32)
SCORES, CLASSES = np.array([0.9, 0.8, 0.7, 0.6], np.float32), np.array([0, 0, 1, 1])


def write_model(outputs: dict[str, np.ndarray], shifts: str | None = None) -> bytes:
    """These, whatever the image; `shifts` moves with the mean of the image, up to four pixels."""
    nodes = [
        helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=0),
        *(helper.make_node("Identity", [f"own {name}"], [name]) for name in outputs if name != shifts),
        *([helper.make_node("Add", [f"own {shifts}", "mean"], [shifts])] if shifts else []),
    ]
    tensors = [numpy_helper.from_array(value, f"own {name}") for name, value in outputs.items()]
    kinds = {np.dtype("float32"): TensorProto.FLOAT, np.dtype("int64"): TensorProto.INT64}
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 32, 32])],
        [helper.make_tensor_value_info(name, kinds[value.dtype], value.shape) for name, value in outputs.items()],
        [*tensors, numpy_helper.from_array(np.array([0, 1, 2, 3]), "axes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def find_classes() -> bytes:
    """The channel that is the largest, of each pixel."""
    nodes = [
        helper.make_node("ArgMax", ["image"], ["classes"], axis=1, keepdims=0),
        helper.make_node("Cast", ["classes"], ["labels"], to=TensorProto.INT32),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 32, 32])
    labels = helper.make_tensor_value_info("labels", TensorProto.INT32, [1, 32, 32])
    model = helper.make_model(helper.make_graph(nodes, "segmenter", [image], [labels]), ir_version=8)
    model.opset_import[0].version = 18
    return model.SerializeToString()


@pytest.fixture
def make(manifest: Manifest, tmp_path: Path) -> Any:
    """make(name, task, model, outputs, labels): a bundle."""

    def run(
        name: str, task: str, model: bytes, outputs: tuple[np.ndarray, ...], labels: Any = LABELS, **changes: Any
    ) -> Path:
        specs = TASKS[task].describe_outputs([each.shape for each in outputs])
        fit = Preprocessing((32, 32), 1.0, "opencv_bilinear", mean=(0, 0, 0), std=(0.25, 0.25, 0.25), resize="fit")
        with write_bundle(tmp_path / name) as draft:
            (draft.path / "model.onnx").write_bytes(model)
            draft.write_sample(Sample(np.zeros((1, 3, 32, 32), np.float32), outputs))
            names = draft.write_labels(labels) if labels else None
            said = {"task": task, "outputs": specs, "preprocessing": fit, "scan_form": "inlined", "labels": names}
            draft.seal(dataclasses.replace(manifest, **said | changes))
        return tmp_path / name

    return run


@pytest.fixture
def detector(make: Any) -> Path:
    return make_detector(make, "detector")


def make_detector(make: Any, name: str, boxes: np.ndarray = BOXES, **changes: Any) -> Path:
    model = write_model({"boxes": boxes, "scores": SCORES, "labels": CLASSES}, shifts="boxes")
    path: Path = make(name, "detection", model, (boxes, SCORES, CLASSES), **changes)
    return path


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Eight images twice the size of the model's, with things near to what the detector finds, and their file."""
    return write_scenes(tmp_path / "scenes")


def write_scenes(folder: Path) -> Path:
    rng = np.random.default_rng(3)
    (folder / "images").mkdir(parents=True)
    images, annotations = list[dict[str, Any]](), list[dict[str, Any]]()
    for i in range(8):
        pixels = rng.integers(0, 30 + 28 * i, (64, 48 + 2 * i, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{i}.png")
        images.append({"id": 7 * i, "file_name": f"{i}.png", "height": 64, "width": 48 + 2 * i})
        for box, index in zip(2 * BOXES, CLASSES, strict=True):
            if rng.random() < 0.7:
                x, y = (box[:2] + rng.uniform(0, 6, 2)).tolist()
                w, h = (box[2:] - box[:2] + rng.uniform(-3, 3, 2)).tolist()
                mask = np.zeros((64, 48 + 2 * i), bool)
                mask[round(y) : round(y + h), round(x) : round(x + w)] = True
                said = {"id": len(annotations) + 1, "image_id": 7 * i, "category_id": 30 - 10 * int(index)}
                said |= {"bbox": [x, y, w, h], "area": w * h, "iscrowd": int(rng.random() < 0.1)}
                annotations.append(said | {"segmentation": encode_mask(mask)})
    categories = [{"id": 20, "name": "ring"}, {"id": 30, "name": "disc"}, {"id": 1, "name": "person"}]
    text = json.dumps({"images": images, "annotations": annotations, "categories": categories, "info": {"year": 2026}})
    (folder / "things.json").write_text(text)
    return folder


def evaluate(bundles: Any, scenes: Path, **options: Any) -> Any:
    chosen = dataclasses.replace(QUICK, **{"annotations": scenes / "things.json"} | options)
    return evm_deploy.evaluate(bundles, scenes / "images", chosen)


def measure_by_coco(bundle: Path, scenes: Path, compared: str) -> list[float]:
    """COCO's figures of what `predict` says, by the way that its documentation shows."""
    true = coco.COCO(str(scenes / "things.json"))
    found = []
    for said in true.dataset["images"]:
        (one,) = evm_deploy.predict(bundle, scenes / "images" / said["file_name"])
        for each in one.findings.to_dict()["detections"]:
            found.append(each | {"image_id": said["id"], "category_id": 30 - 10 * each["category_id"]})
    run = cocoeval.COCOeval(true, true.loadRes(found), compared)
    run.evaluate()
    run.accumulate()
    run.summarize()
    return [max(value, 0) for value in run.stats[:6].tolist()]


def test_average_precision_is_that_of_coco(detector: Path, scenes: Path) -> None:
    report = evaluate(detector, scenes)
    (row,) = report.rows
    assert [figure.value or 0 for figure in row.figures] == pytest.approx(measure_by_coco(detector, scenes, "bbox"))
    main = row.figures[0]
    assert 0.1 < main.low < main.value < main.high < 0.9
    assert report.classes == LABELS
    assert np.mean(row.per_class) == pytest.approx(main.value)
    assert report.data["annotations"]
    assert report.notes == ()


def test_without_labels_the_order_of_numbers_counts(make: Any, scenes: Path) -> None:
    said = json.loads((scenes / "things.json").read_text())
    said["categories"] = [{"id": 20, "name": "disc"}, {"id": 30, "name": "ring"}]
    (scenes / "things.json").write_text(json.dumps(said))
    report = evaluate(make_detector(make, "plain", labels=None), scenes)
    assert (
        report.assumed_order
        == "the model has no labels: its outputs were taken for the classes by number, 0: disc, 1: ring"
    )
    assert report.classes == ("disc", "ring")


def test_masks_are_measured_as_coco_does(make: Any, scenes: Path) -> None:
    masks = np.random.default_rng(0).random((4, 28, 28)).astype(np.float32) + 0.3
    outputs = {"boxes": BOXES, "scores": SCORES, "labels": CLASSES, "masks": np.minimum(masks, 1)}
    bundle = make("masks", "instance_segmentation", write_model(outputs, "boxes"), tuple(outputs.values()))
    (row,) = evaluate(bundle, scenes).rows
    found = {figure.name: figure.value or 0 for figure in row.figures}
    assert list(found.values())[:6] == pytest.approx(measure_by_coco(bundle, scenes, "segm"))
    assert list(found.values())[6:] == pytest.approx(measure_by_coco(bundle, scenes, "bbox"))
    assert next(iter(found)) == "mask AP"


def test_an_image_that_is_drawn_twice_counts_twice(make: Any, detector: Path, scenes: Path) -> None:
    metric = TASKS["detection"].metric
    kept = keep_all(detector, scenes)
    counts = np.array([[1] * 8, [2, 0, 1, 3, 0, 1, 1, 0]])
    expected = [
        metric.measure([one for one, count in zip(kept, row, strict=True) for _ in range(count)]).figures["AP"]
        for row in counts
    ]
    assert metric.measure(kept).resample(counts) == pytest.approx(expected)
    assert expected[0] != expected[1]


def keep_all(bundle: Path, scenes: Path) -> Any:
    from evm_deploy.bundle import Bundle
    from evm_deploy.data.coco import read_coco
    from evm_deploy.data.samples import read_samples
    from evm_deploy.evaluation import running
    from evm_deploy.evaluation.contenders import read_contenders

    said = Bundle.open(bundle).manifest.preprocessing
    group = read_contenders([bundle], QUICK)
    samples = read_samples(scenes / "images", said, labels=group.labels, annotations=read_coco(scenes / "things.json"))
    return [each for (each,) in running.collect_answers(group.contenders, {said: samples}).kept.values()]


def test_a_bundle_that_moves_boxes_loses_points(make: Any, detector: Path, scenes: Path) -> None:
    worse = make_detector(make, "worse", BOXES + np.float32(5), precision="int8")
    report = evaluate([detector, worse], scenes, floor=0.99, max_drop=1.0)
    row = report.rows[1]
    assert row.moved is not None
    assert row.moved.value == pytest.approx(row.figures[0].value - report.rows[0].figures[0].value)
    assert row.moved.low <= row.moved.value <= row.moved.high < 0
    assert len(report.failures) == 3
    assert "points of AP, 1.0 allowed" in report.failures[2]


def test_the_command_prints_the_figures(
    detector: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", str(detector), "--data", str(scenes / "images"), "--latency-runs", "0", "--per-class"]
    annotations = ["--annotations", str(scenes / "things.json")]
    assert cli.main([*command, *annotations, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "AP50" in said
    assert "images drawn anew" in said
    assert "Accumulating" not in said
    assert (tmp_path / "out" / "per_class.csv").read_text().startswith("class,images")
    written = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert [figure["name"] for figure in written["rows"][0]["figures"]][:2] == ["AP", "AP50"]
    assert cli.main(command) == 2
    assert "--annotations" in capsys.readouterr().err


def test_workers_give_the_same(detector: Path, scenes: Path) -> None:
    pytest.importorskip("distributed")
    alone, shared = evaluate(detector, scenes), evaluate(detector, scenes, workers=1)
    assert alone.rows[0].figures[0].value == pytest.approx(shared.rows[0].figures[0].value)


# label maps


@pytest.fixture
def maps(tmp_path: Path) -> Path:
    """Four images of three colours, and their classes: some are wrong, and some do not count."""
    rng, folder = np.random.default_rng(5), tmp_path / "maps"
    for name in ("images/a", "maps/a"):
        (folder / name).mkdir(parents=True)
    for i in range(4):
        classes = rng.integers(0, 3, (32, 24 + i)).astype(np.uint8)
        Image.fromarray(np.uint8(255 * np.eye(3)[classes])).save(folder / "images" / "a" / f"{i}.jpg.png")
        wrong, ignored = rng.random(classes.shape) < 0.2, rng.random(classes.shape) < 0.1
        classes[wrong] = rng.integers(0, 2, wrong.sum())  # the last class is taken for another
        classes[ignored] = 255
        Image.fromarray(classes).save(folder / "maps" / "a" / f"{i}.jpg.png")
    return folder


def segment(make: Any, labels: tuple[str, ...] | None = ("red", "green", "blue")) -> Any:
    return make("segmenter", "semantic_segmentation", find_classes(), (np.zeros((1, 32, 32), np.int32),), labels)


def measure_slowly(maps: Path) -> tuple[float, float, float]:
    """mIoU, and the accuracy of pixels and of classes, pixel by pixel, as mmsegmentation defines them."""
    table = np.zeros((3, 3))
    for path in sorted((maps / "maps").rglob("*.png")):
        true = np.asarray(Image.open(path))
        found = np.asarray(Image.open(maps / "images" / "a" / path.name)).argmax(2)
        for one, other in zip(true.ravel(), found.ravel(), strict=True):
            if one != 255:
                table[one, other] += 1
    right = table.diagonal()
    unions = table.sum(0) + table.sum(1) - right
    return float((right / unions).mean()), float(right.sum() / table.sum()), float((right / table.sum(1)).mean())


def test_classes_of_pixels_are_counted(make: Any, maps: Path) -> None:
    options = dataclasses.replace(QUICK, annotations=maps / "maps")
    report = evm_deploy.evaluate(segment(make), maps / "images", options)
    (row,) = report.rows
    assert [figure.value for figure in row.figures] == pytest.approx(measure_slowly(maps))
    assert [figure.name for figure in row.figures] == ["mIoU", "pixel accuracy", "class accuracy"]
    assert row.figures[0].low < row.figures[0].value < row.figures[0].high
    assert report.class_images == (4, 4, 4)


def test_zero_can_stand_for_no_class(make: Any, maps: Path) -> None:
    bundle, plain = segment(make), dataclasses.replace(QUICK, annotations=maps / "maps")
    expected = evm_deploy.evaluate(bundle, maps / "images", plain).rows[0].figures
    for path in (maps / "maps").rglob("*.png"):
        classes = np.asarray(Image.open(path))
        Image.fromarray(np.where(classes == 255, 0, classes + 1).astype(np.uint8)).save(path)
    with pytest.raises(InputError, match=r"class 3; the model has classes 0 to 2.*--reduce-zero-label"):
        evm_deploy.evaluate(bundle, maps / "images", plain)
    reduced = dataclasses.replace(plain, reduce_zero_label=True)
    assert evm_deploy.evaluate(bundle, maps / "images", reduced).rows[0].figures == expected


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda path: path.unlink(), r"no a/0.jpg.png for the image"),
        (lambda path: path.write_bytes(path.read_bytes()[:60]), "is no label map"),
        (lambda path: Image.new("RGB", (24, 32)).save(path), "its mode is RGB"),
        (lambda path: Image.new("L", (23, 32)).save(path), "is 23x32, its image 24x32"),
    ],
)
def test_maps_that_do_not_fit_are_refused(make: Any, maps: Path, change: Any, cause: str) -> None:
    change(maps / "maps" / "a" / "0.jpg.png")
    with pytest.raises(InputError, match=cause):
        evm_deploy.evaluate(segment(make), maps / "images", dataclasses.replace(QUICK, annotations=maps / "maps"))


# what cannot be


def change_first(part: str, **values: Any) -> Any:
    def change(said: dict[str, Any]) -> None:
        said[part][0] |= values

    return change


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda said: said.pop("images"), "images"),
        (lambda said: said.update(images=[]), "no images"),
        (lambda said: said["images"].append(said["images"][0]), "is there twice"),
        (lambda said: said["categories"].append({"id": 5, "name": "ring"}), "'ring' is there twice"),
        (change_first("images", file_name="../../etc/passwd"), "leaves"),
        (change_first("images", file_name="none.png"), "has no image 'none.png'"),
        (change_first("images", width=47), "a segmentation"),
        (
            lambda said: said["images"][0].update(width=47) or said.update(annotations=[]),
            "and its annotations are of 47x64",
        ),
        (change_first("images", width=1 << 40), "is 1099511627776x64"),
        (change_first("annotations", image_id=99), "not there"),
        (change_first("annotations", category_id=4), "not there"),
        (change_first("annotations", bbox=[0, 0, -1, 5]), "the box"),
        (change_first("annotations", bbox=[0, 0, 5]), "bbox"),
        (change_first("annotations", bbox=[0, 0, float("nan"), 5]), "the box"),
        (change_first("annotations", category_id=1), "'person' of the data is not a label"),
        (change_first("annotations", segmentation={"size": [64, 48], "counts": "11"}), "a segmentation"),
        (change_first("annotations", segmentation={"size": [9, 9], "counts": [81]}), "a segmentation"),
        (change_first("annotations", segmentation={"size": [64, 48], "counts": [1 << 60]}), "a segmentation"),
        (change_first("annotations", segmentation=[[0, 0, 1e300, 1, 1, 1]]), "a segmentation"),
        (change_first("annotations", segmentation=[[0, 0, 1]]), "a segmentation"),
    ],
)
def test_annotations_that_cannot_be_are_refused(detector: Path, scenes: Path, change: Any, cause: str) -> None:
    said = json.loads((scenes / "things.json").read_text())
    change(said)
    (scenes / "things.json").write_text(json.dumps(said))
    with pytest.raises(InputError, match=cause):
        evaluate(detector, scenes)


def test_annotations_of_the_wrong_kind_are_refused(make: Any, detector: Path, scenes: Path, maps: Path) -> None:
    segmenter = segment(make)
    for bundle, annotations, cause in [
        (detector, maps / "maps", "gives label maps, and AP needs things"),
        (segmenter, scenes / "things.json", "gives things, and mIoU needs label maps"),
        (detector, scenes / "none.json", "does not exist"),
        (detector, None, "which is not given"),
    ]:
        with pytest.raises(EvmDeployError, match=cause):
            evaluate(bundle, scenes, annotations=annotations)
    with pytest.raises(OptionError, match="no label maps are given"):
        EvaluateOptions(reduce_zero_label=True)
    with pytest.raises(InputError, match=r"a detector, .* a semantic segmenter"):
        evaluate([detector, segmenter], scenes)


def test_polygons_and_run_lengths_are_masks(make: Any, detector: Path, scenes: Path) -> None:
    said = json.loads((scenes / "things.json").read_text())
    for each in said["annotations"]:
        x, y, w, h = each["bbox"]
        each["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    (scenes / "things.json").write_text(json.dumps(said))
    outputs = {"boxes": BOXES, "scores": SCORES, "labels": CLASSES, "masks": np.ones((4, 28, 28), np.float32)}
    bundle = make("masks", "instance_segmentation", write_model(outputs, "boxes"), tuple(outputs.values()))
    found = {figure.name: figure.value for figure in evaluate(bundle, scenes).rows[0].figures}
    assert found["mask AP50"] > 0.3


def test_without_the_library_it_is_said(detector: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pycocotools.cocoeval", None)
    with pytest.raises(MissingToolError, match=r"pip install .*pycocotools"):
        evaluate(detector, scenes)
