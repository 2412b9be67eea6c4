"""A new row is all that a new task takes: one with two outputs, integers among them, that may find nothing."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import evm_deploy
from evm_deploy.bundle import Bundle, IOSpec, Manifest, Preprocessing, Sample, write_bundle
from evm_deploy.errors import BundleError, OptionError
from evm_deploy.tasks import FEATURES, TASKS, infer_task
from evm_deploy.tasks.agreement import Agreement, Comparison, compare
from evm_deploy.tasks.task import Shown

OUTPUTS = (
    IOSpec("boxes", ("found", 4), "float32", "NC", "boxes"),
    IOSpec("classes", ("found", 1), "int64", "NC", "classes"),
)
COLOURS = ("red", "green", "blue")
BOXES = np.arange(12, dtype=np.float32).reshape(3, 4)


def compare_boxes(
    found: Sequence[Any], expected: Sequence[Any], outputs: Sequence[IOSpec], tolerance: float
) -> list[Comparison]:
    """As many of each class, and their boxes where there are any."""
    if not np.array_equal(found[1], expected[1]):
        return [Comparison("boxes", Agreement(np.inf, np.inf, 0.0, -np.inf, None), False)]
    if not len(expected[1]):
        return [Comparison("boxes", Agreement(0.0, 0.0, 1.0, np.inf, None), True)]
    agreement = compare(found[0], expected[0], scores=False)
    return [Comparison("boxes", agreement, agreement.relative <= tolerance)]


def show_boxes(found: Sequence[Any], outputs: Sequence[IOSpec], labels: Sequence[str] | None, count: int) -> Shown:
    return tuple((labels[index] if labels else str(index), 1.0) for (index,) in found[1][:count])


COLOUR_FINDER = dataclasses.replace(
    FEATURES,
    name="colours",
    title="a finder of colours",
    are_outputs=lambda outputs: [spec.meaning for spec in outputs] == ["boxes", "classes"],
    recognises=lambda shapes: [len(shape) for shape in shapes] == [2, 2],
    empty_outputs=True,
    count_classes=lambda outputs: None,
    compare=compare_boxes,
    show=show_boxes,
    metric="finds boxes, and is measured otherwise",
)


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, COLOUR_FINDER.name, COLOUR_FINDER)


def find_colours() -> bytes:
    """A class and a box for each colour whose mean is above 0.5."""
    nodes = [
        helper.make_node("ReduceMean", ["image", "axes"], ["means"], keepdims=0),
        helper.make_node("Reshape", ["means", "flat"], ["colours"]),
        helper.make_node("Greater", ["colours", "half"], ["above"]),
        helper.make_node("NonZero", ["above"], ["places"]),
        helper.make_node("Transpose", ["places"], ["classes"]),
        helper.make_node("Reshape", ["classes", "flat"], ["indices"]),
        helper.make_node("Gather", ["table", "indices"], ["boxes"], axis=0),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 32, 32])
    boxes = helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["found", 4])
    classes = helper.make_tensor_value_info("classes", TensorProto.INT64, ["found", 1])
    constants = {"axes": [2, 3], "flat": [-1], "half": np.float32(0.5), "table": BOXES}
    tensors = [numpy_helper.from_array(np.array(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "colours", [image], [boxes, classes], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def detector(out: Path, manifest: Manifest, found: Sequence[int] = ()) -> Path:
    """A bundle whose golden image is black, and whose golden pair says that these colours are found there."""
    with write_bundle(out) as draft:
        (draft.path / "model.onnx").write_bytes(find_colours())
        classes = np.array(found, np.int64).reshape(-1, 1)
        draft.write_sample(Sample(np.zeros((1, 3, 32, 32), np.float32), (BOXES[classes[:, 0]], classes)))
        inputs = (IOSpec("image", (1, 3, 32, 32), "float32", "NCHW", "image"),)
        changes: dict[str, Any] = {"inputs": inputs, "outputs": OUTPUTS, "scan_form": "inlined"}
        changes["preprocessing"] = Preprocessing((32, 32), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        labels = draft.write_labels(COLOURS)
        draft.seal(dataclasses.replace(manifest, task=COLOUR_FINDER.name, labels=labels, **changes))
    return out


def test_nothing_found_is_an_answer_to_verify(manifest: Manifest, tmp_path: Path) -> None:
    bundle = detector(tmp_path / "bundle", manifest)
    assert [output.shape for output in Bundle.open(bundle).sample().outputs] == [(0, 4), (0, 1)]
    assert evm_deploy.verify(bundle).passed
    assert not evm_deploy.verify(detector(tmp_path / "wrong", manifest, found=[1])).passed


def test_a_person_is_shown_what_the_task_says(manifest: Manifest, tmp_path: Path) -> None:
    bundle = detector(tmp_path / "bundle", manifest)
    for name, colour in (("black", (0, 0, 0)), ("yellow", (255, 255, 0))):
        Image.new("RGB", (40, 40), colour).save(tmp_path / f"{name}.png")
    nothing, both = evm_deploy.predict(bundle, [tmp_path / "black.png", tmp_path / "yellow.png"])
    assert nothing.top == ()
    assert both.top == (("red", 1.0), ("green", 1.0))


def test_what_the_task_lacks_is_said_in_its_words(manifest: Manifest, tmp_path: Path) -> None:
    bundle = detector(tmp_path / "bundle", manifest)
    with pytest.raises(BundleError, match="is a finder of colours: it finds boxes, and is measured otherwise"):
        evm_deploy.evaluate(bundle, [np.zeros((40, 40, 3), np.uint8)])


def test_another_task_may_not_be_empty(manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = detector(tmp_path / "bundle", manifest)
    monkeypatch.setitem(TASKS, COLOUR_FINDER.name, dataclasses.replace(COLOUR_FINDER, empty_outputs=False))
    with pytest.raises(BundleError, match="boxes is float32"):
        Bundle.open(bundle).sample()


def test_the_task_is_told_from_the_shapes() -> None:
    assert infer_task([("found", 4), ("found", 1)]) is COLOUR_FINDER
    with pytest.raises(OptionError, match="colours"):
        infer_task([(1, 2, 3)])
