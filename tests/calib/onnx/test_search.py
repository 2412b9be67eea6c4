"""The search on a toy: what a part loses is known, so is what must be left out, and that a killed search goes on."""

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from evm_deploy.calib.onnx.losses import Run, watch_float
from evm_deploy.calib.onnx.pareto import find_front, plot_search
from evm_deploy.calib.onnx.search import Mix, search
from evm_deploy.calib.onnx.speed import Speed
from evm_deploy.data.annotations import read_annotations
from evm_deploy.data.samples import Samples, read_samples
from evm_deploy.errors import CheckFailed, InputError, OutputError
from evm_deploy.manifest import Preprocessing
from evm_deploy.tasks import find_task
from evm_deploy.tasks.scores import measure_divergence

PARTS = {"good": ["a", "b"], "bad": ["c"], "fair": ["d"]}
SAY = lambda stage: None  # noqa: E731
TASK = find_task("classification")


def write(layers: Sequence[str]) -> bytes:
    """Scores of three classes: the means of the channels. The part "bad" swaps the classes, "fair" adds a little."""
    weights = np.eye(3, dtype=np.float32)
    weights = weights[[1, 2, 0]] if "c" in layers else weights
    weights = weights + (np.float32(0.01) if "d" in layers else 0) * np.arange(3, dtype=np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["image"], ["m"]),
            helper.make_node("Flatten", ["m"], ["f"]),
            helper.make_node("MatMul", ["f", "w"], ["scores"]),
        ],
        "toy",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 32, 32])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def colours() -> list[np.ndarray]:
    """Twelve pictures of three colours in turn."""
    return [np.broadcast_to(np.eye(3, dtype=np.uint8)[i % 3] * 255, (32, 32, 3)).copy() for i in range(12)]


@pytest.fixture
def pictures() -> Samples:
    """The class of each picture is its colour."""
    return read_samples([(picture, i % 3) for i, picture in enumerate(colours())], Preprocessing((32, 32)))


def label(layers: Sequence[str]) -> bytes:
    """The class of each pixel by its colour; the part "bad" swaps the classes."""
    model = onnx.load_model_from_string(write(layers))
    del model.graph.node[:], model.graph.output[:]
    weights = numpy_helper.to_array(model.graph.initializer[0]).T[..., None, None]
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "w"))
    model.graph.node.append(helper.make_node("Conv", ["image", "w"], ["scores"]))
    model.graph.node.append(helper.make_node("ArgMax", ["scores"], ["labels"], axis=1, keepdims=0))
    model.graph.output.append(helper.make_tensor_value_info("labels", TensorProto.INT64, [1, 32, 32]))
    onnx.checker.check_model(model)
    return model.SerializeToString()


@pytest.mark.parametrize("annotated", [True, False])
def test_classes_of_pixels_are_searched_by_miou(tmp_path: Path, annotated: bool) -> None:
    for name in ("images", "maps"):
        (tmp_path / name).mkdir()
    for i, picture in enumerate(colours()):
        Image.fromarray(picture).save(tmp_path / "images" / f"{i}.png")
        Image.fromarray(picture.argmax(-1).astype(np.uint8)).save(tmp_path / "maps" / f"{i}.png")
    task = find_task("semantic_segmentation")
    maps = read_annotations(task.metric, tmp_path / "maps", zero_is_ignored=False) if annotated else None
    steps = Preprocessing((32, 32), resize="fit", interpolation="opencv_bilinear", crop_pct=1)
    samples = read_samples(tmp_path / "images", steps, annotations=maps)
    found = search(PARTS, label, samples, 0.5, cache=None, progress=SAY, task=task)
    assert [(mix.parts, mix.drop) for mix in found.alone] == [(("good",), 0), (("bad",), 100), (("fair",), 0)]
    assert [mix.divergence for mix in found.alone] == [0, 1, 0]
    assert "bad" not in found.best.parts
    assert found.labelled == annotated
    assert ("points of mIoU lost on 12 images" in found.make_notes()[0]) == annotated


def find_one(box: Sequence[float], score: float = 0.9) -> Run:
    """A detector that finds one thing in every image."""
    found = [np.array([box], np.float32), np.array([score], np.float32), np.zeros(1, np.int64)]
    return lambda image: found


def test_detections_are_searched_by_average_precision(pictures: Samples) -> None:
    pytest.importorskip("pycocotools")
    loss = watch_float(find_task("detection"), pictures, find_one([2, 2, 22, 22]))
    assert not loss.labelled
    assert loss.measure(find_one([2, 2, 22, 22])) == (pytest.approx(0), pytest.approx(0))
    drop, divergence = loss.measure(find_one([2, 2, 22, 16.5]))  # covers 0.725 of it: right at 5 of 10 limits
    assert drop == pytest.approx(50)
    assert divergence == pytest.approx(0.5)
    with pytest.raises(InputError, match="nothing is there, or found with certainty"):
        watch_float(find_task("detection"), pictures, find_one([2, 2, 22, 22], score=0.1))


def test_the_part_that_loses_is_left_out(pictures: Samples) -> None:
    found = search(PARTS, write, pictures, 0.5, cache=None, progress=SAY, task=TASK)
    assert [(mix.parts, mix.drop) for mix in found.alone] == [(("good",), 0), (("bad",), 100), (("fair",), 0)]
    assert found.mixes[0].parts == ("good", "bad", "fair")
    assert found.mixes[0].drop == 100
    assert "bad" not in found.best.parts
    assert found.best.drop == 0
    assert found.labelled
    assert found.images == 12


def test_the_divergence_tells_apart_what_the_drop_does_not(pictures: Samples) -> None:
    good, _, fair = search(PARTS, write, pictures, 0.5, cache=None, progress=SAY, task=TASK).alone
    assert good.divergence == pytest.approx(0, abs=1e-12)
    assert fair.divergence > 1e-6


def test_without_labels_agreement_counts() -> None:
    unlabelled = read_samples(colours(), Preprocessing((32, 32)))
    found = search(PARTS, write, unlabelled, 0.5, cache=None, progress=SAY, task=TASK)
    assert not found.labelled
    assert "of agreement with the float model" in found.make_notes()[0]


def test_another_order_of_the_classes_is_remarked(pictures: Samples) -> None:
    assert search(PARTS, write, pictures, 0.5, cache=None, progress=SAY, task=TASK).remarks == ()
    shifted = [(picture, (i + 1) % 3) for i, picture in enumerate(colours() * 3)]
    samples = read_samples(shifted, Preprocessing((32, 32)))
    found = search({"good": PARTS["good"]}, write, samples, 100, cache=None, progress=SAY, task=TASK)
    (said,) = found.remarks
    assert "the classes seem to stand in another order: class 0 is output 2" in said
    assert found.make_notes()[-1] == said


def test_where_every_part_loses_there_is_no_mix(pictures: Samples) -> None:
    with pytest.raises(CheckFailed, match=r"no part of the network can be on integers within 0\.5 points"):
        search({"bad": ["c"]}, write, pictures, 0.5, cache=None, progress=SAY, task=TASK)


def test_a_killed_search_goes_on(pictures: Samples, tmp_path: Path) -> None:
    cache, written = tmp_path / "deep" / "search.json", []

    def dies(layers: Sequence[str]) -> bytes:
        if layers == ["d"]:
            raise KeyboardInterrupt
        return write(layers)

    with pytest.raises(KeyboardInterrupt):
        search(PARTS, dies, pictures, 0.5, cache=cache, progress=SAY, task=TASK)
    before = json.loads(cache.read_text())["measured"]
    assert before.keys() == {"good", "bad"}

    def counts(layers: Sequence[str]) -> bytes:
        written.append(tuple(layers))
        return write(layers)

    found = search(PARTS, counts, pictures, 0.5, cache=cache, progress=SAY, task=TASK)
    assert ("c",) not in written
    assert ("d",) in written
    assert [found.alone[0].drop, found.alone[0].divergence, found.alone[0].ratio] == before["good"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"key": 1}', '{"key": "x", "measured": 3}', "[" * 100_000])
def test_a_cache_of_something_else_is_not_used(pictures: Samples, tmp_path: Path, text: str) -> None:
    cache = tmp_path / "search.json"
    cache.write_text(text)
    assert search(PARTS, write, pictures, 0.5, cache=cache, progress=SAY, task=TASK).best.drop == 0


def test_no_images_say_so(pictures: Samples) -> None:
    class Nothing(Samples):
        def __init__(self) -> None:
            pass

        def __iter__(self):  # type: ignore[no-untyped-def]
            return iter(())

    with pytest.raises(InputError, match="no images to search on"):
        search(PARTS, write, Nothing(), 0.5, cache=None, progress=SAY, task=TASK)


def test_the_front_is_what_nothing_beats() -> None:
    fast, slow = Mix(("a",), 2.0, 0, 0.5), Mix((), 0.0, 0, 1.0)
    between, beaten = Mix(("c",), 1.0, 0, 0.8), Mix(("b",), 3.0, 0, 0.7)
    assert find_front([slow, beaten, between, fast]) == [fast, between, slow]


def test_a_search_is_drawn(pictures: Samples, tmp_path: Path) -> None:
    found = search(PARTS, write, pictures, 0.5, cache=None, progress=SAY, task=TASK)
    assert plot_search(found, tmp_path / "plots").stat().st_size > 10_000


@pytest.mark.parametrize(("low", "high", "verdict"), [(0.7, 0.9, None), (0.9, 1.1, "not faster"), (1.1, 1.3, "slower")])
def test_there_is_one_verdict_and_it_is_that_of_the_interval(
    pictures: Samples, low: float, high: float, verdict: str | None
) -> None:
    said = Speed(1.0, 1.0, (low + high) / 2, low, high).describe()
    assert f"[{low:.2f}, {high:.2f}]" in said
    assert ("ship the float bundle" in said) == (verdict is not None)
    assert verdict is None or verdict in said
    (note,) = search(PARTS, write, pictures, 0.5, cache=None, progress=SAY, task=TASK).make_notes()
    assert "latency" not in note


def test_probabilities_diverge_as_their_logits_do() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 5, 4)).astype(np.float32)

    def softmax(x: np.ndarray) -> np.ndarray:
        e = np.exp(x - x.max(1, keepdims=True))
        return np.asarray(e / e.sum(1, keepdims=True), np.float32)

    assert measure_divergence(softmax(a), softmax(b)) == pytest.approx(measure_divergence(a, b), rel=1e-5)
    assert measure_divergence(a, a) == 0


def test_a_full_disk_says_so_and_keeps_what_was_there(pictures: Samples, small_disk: Path) -> None:
    cache = small_disk / "search.json"
    cache.write_text("{}")
    (small_disk / "filler").write_bytes(bytes(1 << 20 >> 1))
    with contextlib.suppress(OSError), (small_disk / "rest").open("wb") as rest:
        while True:
            rest.write(bytes(1 << 12))
            rest.flush()
    with pytest.raises(OutputError, match="the disk is full"):
        search(PARTS, write, pictures, 0.5, cache=cache, progress=SAY, task=TASK)
    assert cache.read_text() == "{}"
    assert {path.name for path in small_disk.iterdir()} == {"search.json", "filler", "rest"}
