"""The table of tasks: what it recognises, describes and refuses."""

import pytest

from evm_deploy.bundle import IOSpec
from evm_deploy.errors import BundleError, OptionError
from evm_deploy.tasks import CLASSIFICATION, FEATURES, TASKS, Shape, Task, describe_image, find_task, infer_task

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
