"""What the page makes of the outputs of detectors and segmenters, against what this package makes of them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evm_deploy.manifest import Preprocessing
from evm_deploy.preprocessing import preprocess
from evm_deploy.showing.drawing import draw_classes, pick_colour
from evm_deploy.showing.findings import Placement
from evm_deploy.showing.locating import locate_classes, locate_things
from evm_deploy.tasks import TASKS

from .test_page import encoded, prepared

Modules = Callable[..., Any]
LABELS = ["ring"]  # of class 0 alone: others have numbers
PLACES = (
    Placement((61, 83), (48, 64)),
    Placement((97, 45), (64, 30)),
    Placement((1, 200), (1, 64)),
    Placement((200, 1), (64, 1)),
)
LOCATE = """(module, { task, outputs, placement, labels }) => {
  const { things, classes, map } = module.TASKS[task].locate(outputs, placement, labels);
  const plain = (mask) => mask && { ...mask, covered: [...mask.covered] };
  return { classes, map: map && [...map], things: things?.map((each) => ({ ...each, mask: plain(each.mask) })) };
}"""
GOLDEN = """(m, { found, wanted, limits }) => {
  const outputs = (all) => all.map((data) => ({ data: Float32Array.from(data) }));
  return m.TASKS.detection.compare(outputs(found), outputs(wanted), limits);
}"""


def located(modules: Modules, task: str, outputs: list[np.ndarray], place: Placement) -> Any:
    sizes = {"original": place.original, "content": place.content}
    given = {
        "task": task,
        "outputs": [{"data": each.ravel().tolist(), "shape": each.shape} for each in outputs],
        "placement": {name: {"height": height, "width": width} for name, (height, width) in sizes.items()},
        "labels": LABELS,
    }
    return modules("findings.mjs", LOCATE, given)


def make_things(count: int, place: Placement) -> list[np.ndarray]:
    random = np.random.default_rng(count)
    corners = random.uniform(0, 1, (count, 2, 2)) * place.content[::-1]
    boxes = np.sort(corners, axis=1).reshape(count, 4)
    scores = np.sort(random.uniform(0, 1, count))[::-1]
    masks = random.uniform(0, 1, (count, 28, 28))
    numbers = [each.astype(np.float32) for each in (boxes, scores)]
    return [*numbers, random.integers(0, 3, count), masks.astype(np.float32)]


def fill_mask(mask: dict[str, Any], size: tuple[int, int]) -> np.ndarray:
    covered = np.zeros(size, bool)
    rows, columns = (slice(mask[at], mask[at] + mask[side]) for at, side in (("top", "height"), ("left", "width")))
    covered[rows, columns] = np.reshape(mask["covered"], (mask["height"], mask["width"]))
    return covered


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("count", [0, 7])
def test_things(modules: Modules, place: Placement, count: int) -> None:
    outputs = make_things(count, place)
    found = located(modules, "instance_segmentation", outputs, place)["things"]
    wanted = locate_things(outputs, place, LABELS).things
    assert len(found) == count
    for one, other in zip(found, wanted, strict=True):
        assert one["box"] == pytest.approx(other.box)
        assert (one["score"], one["index"], one["label"]) == (pytest.approx(other.score), other.index, other.name)
        assert (fill_mask(one["mask"], place.original) ^ other.mask).sum() <= 1  # where a share is all but a half


@pytest.mark.parametrize("place", PLACES)
def test_classes_of_pixels(modules: Modules, place: Placement) -> None:
    output = np.random.default_rng(5).integers(0, 3, (1, 64, 64))
    found = located(modules, "semantic_segmentation", [output], place)
    wanted = locate_classes([output], place, LABELS)
    np.testing.assert_array_equal(np.reshape(found["map"], place.original), wanted.label_map)
    rows = [{"category_id": each["index"], "label": each["label"], "share": each["share"]} for each in found["classes"]]
    assert rows == wanted.to_dict()["classes"]


def test_outputs_that_are_none(modules: Modules) -> None:
    place = PLACES[0]
    for at, value in ((1, 1.5), (2, -1)):
        outputs = make_things(2, place)
        outputs[at].flat[0] = value
        with pytest.raises(RuntimeError, match="boxes that are none"):
            located(modules, "detection", outputs[:3], place)
    with pytest.raises(RuntimeError, match="classes that are none"):
        located(modules, "semantic_segmentation", [np.full((1, 64, 64), -1)], place)


@pytest.mark.parametrize("size", [(61, 83), (97, 45), (1, 2000), (2000, 1), (20, 23)])
@pytest.mark.parametrize("choices", [{}, {"channels": "BGR"}, {"scale": (96, 40)}, {"baked": True}])
def test_images_are_fitted_as_opencv_does(modules: Modules, size: tuple[int, int], choices: dict[str, Any]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    steps = Preprocessing((48, 64), crop_pct=1.0, interpolation="opencv_bilinear", resize="fit", **choices)
    expected = preprocess(image, steps)
    _, found = prepared(modules, encoded(Image.fromarray(image), "PNG"), steps, expected.shape)
    np.testing.assert_array_equal(found, expected)


def test_the_golden_pair_of_things(modules: Modules) -> None:
    def compare(found: list[np.ndarray], wanted: list[np.ndarray]) -> Any:
        plain = ([each.ravel().tolist() for each in outputs] for outputs in (found, wanted))
        return modules("findings.mjs", GOLDEN, {**dict(zip(("found", "wanted"), plain, strict=True)), "limits": limits})

    limits = TASKS["detection"].limit_golden(1e-4)._asdict()
    things = make_things(7, PLACES[0])[:3]
    fewer = [each[:-1] for each in things]
    assert compare(things, things) == {"error": pytest.approx(0), "most": pytest.approx(0.02)}
    share = things[1][-1] / (things[1].sum() + fewer[1].sum())
    assert compare(fewer, things)["error"] == pytest.approx(share, rel=1e-3)
    assert compare([each[:0] for each in things], things)["error"] == 1
    twice = [np.concatenate([each, each]) for each in things]
    assert compare(things, twice)["error"] == pytest.approx(1 / 3)  # each of those found is in one pair alone
    assert compare(twice, things)["error"] == pytest.approx(1 / 3)


def test_colours_are_those_of_drawings(modules: Modules) -> None:
    classes = np.arange(60).reshape(6, 10)
    found = modules("findings.mjs", "(m, count) => Array.from({ length: count }, (_, at) => m.colourOf(at))", 60)
    np.testing.assert_allclose(found, [pick_colour(index) for index in range(60)], atol=1)
    image = np.full((6, 10, 3), 77, np.uint8)
    source = """(m, { data, map }) => [...m.coloured({ width: 10, height: 6, data: Uint8Array.from(data) },
      { map: Uint16Array.from(map) }).data]"""
    drawn = modules("findings.mjs", source, {"data": image.ravel().tolist(), "map": classes.ravel().tolist()})
    np.testing.assert_allclose(np.reshape(drawn, image.shape), draw_classes(image, classes), atol=1)
