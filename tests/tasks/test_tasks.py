"""The table of tasks: what it recognises, describes and refuses."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from evm_deploy.bundle import IOSpec
from evm_deploy.errors import BundleError, InputError, OptionError
from evm_deploy.labels import read_labels
from evm_deploy.tasks import (
    CLASSIFICATION,
    FEATURES,
    TASKS,
    NotAnAnswer,
    Shape,
    Task,
    describe_image,
    find_task,
    infer_task,
)
from evm_deploy.tasks.agreement import ShapeDiffers

SCORES = [(1, 10)]
MAPS = [(1, 16, 8, 8), ("batch", 32, "height1", "width1")]
IMAGE = describe_image((32, 48), baked=False)


def test_a_row_has_the_name_of_its_place() -> None:
    assert {name: task.name for name, task in TASKS.items()} == {name: name for name in TASKS}
    assert [find_task(name) for name in ("classification", "backbone")] == [CLASSIFICATION, FEATURES]


def test_an_unknown_task_is_an_error_of_the_bundle() -> None:
    with pytest.raises(BundleError, match="task 'poetry' is not known here"):
        find_task("poetry")


@pytest.mark.parametrize(("shapes", "task"), [(SCORES, CLASSIFICATION), (MAPS, FEATURES), (MAPS[:1], FEATURES)])
def test_the_task_follows_from_the_shapes(shapes: list[Shape], task: Task) -> None:
    assert infer_task(shapes) is task


@pytest.mark.parametrize("shapes", [[], [(1, 197, 192)], [*SCORES, *SCORES], [*SCORES, *MAPS]])
def test_other_shapes_have_to_be_named(shapes: list[Shape]) -> None:
    with pytest.raises(OptionError, match="classification or backbone"):
        infer_task(shapes)


@pytest.mark.parametrize(("task", "shapes"), [(CLASSIFICATION, SCORES), (FEATURES, MAPS), (FEATURES, MAPS[:1])])
def test_what_a_task_describes_are_its_outputs(task: Task, shapes: list[Shape]) -> None:
    outputs = task.describe_outputs(shapes)
    task.check_outputs(outputs)
    assert [spec.shape for spec in outputs] == shapes
    renamed = task.describe_outputs(shapes, [f"mine{i}" for i in range(len(shapes))])
    assert [spec.name for spec in renamed] == [f"mine{i}" for i in range(len(shapes))]


def test_one_class_alone_is_refused() -> None:
    """Softmax makes its probability 1, whatever is in the image."""
    with pytest.raises(InputError, match="one class: its probability would be 1"):
        CLASSIFICATION.describe_outputs([("batch", 1)])
    (spec,) = CLASSIFICATION.describe_outputs([(1, 2)])
    with pytest.raises(NotAnAnswer, match="one class"):
        CLASSIFICATION.show([np.zeros((1, 1), np.float32)], [dataclasses.replace(spec, shape=(1, 1))], None, 5)


def test_the_names_of_outputs() -> None:
    assert [spec.name for spec in CLASSIFICATION.describe_outputs(SCORES)] == ["logits"]
    assert [spec.name for spec in CLASSIFICATION.describe_outputs(SCORES, softmax=True)] == ["probabilities"]
    assert [spec.name for spec in FEATURES.describe_outputs(MAPS)] == ["feature0", "feature1"]


@pytest.mark.parametrize(
    ("task", "outputs"),
    [
        (CLASSIFICATION, ()),
        (CLASSIFICATION, CLASSIFICATION.describe_outputs(SCORES) * 2),
        (CLASSIFICATION, CLASSIFICATION.describe_outputs([(1, 10, 1)])),
        (CLASSIFICATION, FEATURES.describe_outputs(MAPS)),
        (FEATURES, ()),
        (FEATURES, (*FEATURES.describe_outputs(MAPS), *CLASSIFICATION.describe_outputs(SCORES))),
    ],
)
def test_outputs_of_another_task_are_refused(task: Task, outputs: tuple[IOSpec, ...]) -> None:
    with pytest.raises(ValueError, match=f"are not those of {task.name}"):
        task.check_outputs(outputs)


def test_an_array_fits_its_tensor() -> None:
    spec = IOSpec("boxes", ("batch", 4), "float32", "NC", "boxes")
    assert spec.fits((2, 4), "float32")
    assert not spec.fits((2, 4, 1), "float32")
    assert not spec.fits((2, 5), "float32")
    assert not spec.fits((2, 4), "int64")


def test_only_what_may_be_empty_fits_without_values() -> None:
    spec = IOSpec("boxes", ("found", 4), "float32", "NC", "boxes")
    assert not spec.fits((0, 4), "float32")
    assert spec.fits((0, 4), "float32", empty=True)
    assert not spec.fits((0, 5), "float32", empty=True)


@pytest.mark.parametrize(
    ("spec", "taken"),
    [
        (IMAGE, True),
        (describe_image(("height", "width"), "batch", baked=False), True),
        (describe_image((48, 32), baked=False), False),
        (describe_image((32, 48), baked=True), False),
        (IOSpec("image", IMAGE.shape, "float32", "NHWC", "image"), False),
        (IOSpec("image", IMAGE.shape, "float32", "NCHW", "logits"), False),
    ],
)
def test_an_input_takes_an_image(spec: IOSpec, taken: bool) -> None:
    assert spec.takes(IMAGE) is taken


def test_each_map_is_compared_by_itself() -> None:
    maps = [np.ones((1, 2, 4, 4), np.float32), np.ones((1, 4, 2, 2), np.float32)]
    outputs = FEATURES.describe_outputs([found.shape for found in maps])
    found = FEATURES.compare([maps[0], maps[1] + 0.1], maps, outputs, 1e-3)
    assert [(one.output, one.passed) for one in found] == [("feature0", True), ("feature1", False)]
    with pytest.raises(ShapeDiffers, match="feature1 has shape"):
        FEATURES.compare([maps[0], maps[0]], maps, outputs, 1e-3)


@pytest.mark.parametrize(
    ("softmax", "scores", "labels", "message"),
    [
        (False, [[1, np.nan]], None, "gives no scores"),
        (False, [[1, 2, 3]], None, "gives no scores"),
        (True, [[0.5, 1.5]], None, "gives no scores"),
        (False, [[1, 2]], ("cat",), "has 1 labels for 2 classes"),
    ],
)
def test_scores_that_are_no_answer(
    softmax: bool, scores: list[list[float]], labels: tuple[str, ...] | None, message: str
) -> None:
    assert not isinstance(CLASSIFICATION.show, str)
    outputs = CLASSIFICATION.describe_outputs([(1, 2)], softmax=softmax)
    with pytest.raises(NotAnAnswer, match=message):
        CLASSIFICATION.show([np.array(scores, np.float32)], outputs, labels, 5)


def test_a_person_is_shown_probabilities() -> None:
    assert not isinstance(CLASSIFICATION.show, str)
    scores = [np.array([[0.25, 0.75]], np.float32)]
    probabilities = CLASSIFICATION.describe_outputs([(1, 2)], softmax=True)
    assert CLASSIFICATION.show(scores, probabilities, ("cat", "dog"), 1) == (("dog", 0.75),)
    logits = CLASSIFICATION.describe_outputs([(1, 2)])
    (_, first), (_, second) = CLASSIFICATION.show([np.log(scores[0])], logits, None, 2)
    assert (first, second) == (pytest.approx(0.75), pytest.approx(0.25))


def test_only_probabilities_take_a_step_after_the_network() -> None:
    assert CLASSIFICATION.post_process(CLASSIFICATION.describe_outputs(SCORES)) is None
    assert FEATURES.post_process(FEATURES.describe_outputs(MAPS)) is None
    softmax = CLASSIFICATION.post_process(CLASSIFICATION.describe_outputs(SCORES, softmax=True))
    assert softmax is not None
    assert torch.allclose(softmax((torch.zeros(1, 4),))[0], torch.full((1, 4), 0.25))


def test_who_has_no_classes_has_no_labels(tmp_path: Path) -> None:
    names = tmp_path / "labels.txt"
    names.write_text("cat\ndog\n")
    assert read_labels(names, CLASSIFICATION, CLASSIFICATION.describe_outputs([(1, 2)])) == ("cat", "dog")
    with pytest.raises(InputError, match="the model has 10 classes"):
        read_labels(names, CLASSIFICATION, CLASSIFICATION.describe_outputs(SCORES))
    with pytest.raises(InputError, match=r"^a backbone has no classes to label\. Fix: leave --labels out\."):
        read_labels(names, FEATURES, FEATURES.describe_outputs(MAPS))
