"""What the Kotlin of the Android package finds in images, compiled and run on this machine, against `predict`."""

from __future__ import annotations

import base64
import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evm_deploy.bundle import Bundle
from evm_deploy.manifest import Preprocessing
from evm_deploy.prediction import predict_images
from evm_deploy.preprocessing import preprocess
from evm_deploy.showing.drawing import draw_classes, pick_colour
from evm_deploy.showing.findings import DetectedThings, Findings
from evm_deploy.tasks.detection import DETECTION

from .conftest import Ask
from .test_kotlin import profiled

pytestmark = pytest.mark.slow
SIZES = ((61, 83), (97, 45), (1, 2000), (2000, 1), (64, 64))  # (h, w) of the images, the last without anything in it
FREE: dict[str, Any] = {"dynamic_size": True, "scale": (96, 64)}
KINDS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("retinanet", {}),
    ("maskrcnn", {}),
    ("upernet", {}),
    ("maskrcnn", FREE),
    ("retinanet", {**FREE, "bake_preprocessing": True}),
    ("upernet", {**FREE, "bake_preprocessing": True}),
)


@pytest.fixture(scope="module")
def export(exported: Callable[..., Bundle]) -> Callable[..., Bundle]:
    return lambda name, **choices: exported(f"{name}_micro", image_size=(96, 128), **choices)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of each image its file; beside it, as an array."""
    folder, random = tmp_path_factory.mktemp("images"), np.random.default_rng(3)
    for index, size in enumerate(SIZES):
        empty = index == len(SIZES) - 1
        pixels = np.zeros((*size, 3), np.uint8) if empty else random.integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
        np.save(folder / f"{index}.npy", pixels)
    return sorted(folder.glob("*.png"))


def place_array(image: Path) -> str:
    return str(image.with_suffix(".npy"))


def check_same(found: dict[str, Any], expected: Findings, size: tuple[int, int]) -> None:
    if not isinstance(expected, DetectedThings):
        np.testing.assert_array_equal(found["map"], expected.label_map)
        rows = [{"label": name, "category_id": index, "share": share} for name, index, share in found["classes"]]
        assert rows == expected.to_dict()["classes"]
        return
    assert len(found["things"]) == len(expected.things)
    for one, other in zip(found["things"], expected.things, strict=True):
        assert (one["label"], one["index"]) == (other.name, other.index)
        assert one["box"] == pytest.approx(other.box, abs=1e-6)
        assert one["score"] == pytest.approx(other.score, abs=1e-7)
        assert (one["mask"] is None) == (other.mask is None)
        if other.mask is not None:  # a pixel whose share is all but a half may be rounded otherwise
            assert (fill_mask(one["mask"], size) ^ other.mask).sum() <= 1


def fill_mask(mask: dict[str, Any], size: tuple[int, int]) -> np.ndarray[Any, Any]:
    covered = np.zeros(size, bool)
    for y, row in enumerate(mask["rows"], mask["top"]):
        covered[y, mask["left"] : mask["left"] + len(row)] = [pixel == "1" for pixel in row]
    return covered


@pytest.mark.parametrize(("name", "choices"), KINDS, ids=str)
def test_it_finds_what_predict_finds(
    ask: Ask, export: Callable[..., Bundle], images: list[Path], name: str, choices: dict[str, Any]
) -> None:
    bundle = export(name, **choices)
    free = name == "upernet" and choices  # it does not pad, and has no maps of a side of one pixel
    places = [place for place, size in enumerate(SIZES) if not free or min(size) > 1]
    images = [images[place] for place in places]
    found = ask("find", bundle=str(bundle.path), images=list(map(place_array, images)))
    expected = [one.findings for one in predict_images(bundle, images, top=1, library=True)]
    assert len(found["found"]) == len(images)
    for one, other, size in zip(found["found"], expected, [SIZES[place] for place in places], strict=True):
        assert other is not None
        check_same(one, other, size)
    assert any(each["things"] or each["classes"] for each in found["found"])


@pytest.mark.parametrize("choices", [{}, {"channels": "BGR"}, {"scale": (96, 40)}, {"baked": True}], ids=str)
def test_images_are_fitted_as_opencv_does(ask: Ask, tmp_path: Path, choices: dict[str, Any]) -> None:
    steps = Preprocessing((48, 64), crop_pct=1.0, interpolation="opencv_bilinear", resize="fit", **choices)
    for size in ((61, 83), (97, 45), (1, 2000), (2000, 1), (20, 23), (48, 64)):
        image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
        np.save(tmp_path / "image.npy", image)
        expected = preprocess(image, steps)
        found = ask("prepare", steps=dataclasses.asdict(steps), image=str(tmp_path / "image.npy"))
        assert tuple(found["shape"]) == expected.shape
        assert base64.b64decode(found["input"]) == expected.tobytes(), size


def test_other_ways_of_fitting_are_refused(ask: Ask) -> None:
    said = Preprocessing((48, 64), crop_pct=1.0, interpolation="opencv_bilinear", resize="fit", scale=(96, 40))
    steps = json.loads(json.dumps(dataclasses.asdict(said)))
    assert ask("steps", steps=steps) == {"baked": False}
    wrong: list[dict[str, Any]] = [
        {"interpolation": "bilinear"}, {"crop_pct": 0.9}, {"fill": 9}, {"scale": [96]}, {"scale": [96, 0]},
        {"scale": [5000, 40]}, {"resize": "cover"}, {"resize": "cover", "interpolation": "bicubic"},
    ]  # fmt: skip
    for change in wrong:
        assert ask("steps", steps={**steps, **change})["error"].startswith("FormatException"), change


def test_golden_pairs_are_compared_by_matching(ask: Ask, export: Callable[..., Bundle], tmp_path: Path) -> None:
    bundle, random = export("retinanet"), np.random.default_rng(1)
    corners = random.uniform(0, 60, (7, 4)).astype(np.float32)
    boxes = np.concatenate([corners[:, :2], corners[:, :2] + 1 + corners[:, 2:]], 1)
    things = [boxes, np.linspace(0.9, 0.3, 7, dtype=np.float32), random.integers(0, 3, 7)]

    def judge(found: list[np.ndarray[Any, Any]], expected: list[np.ndarray[Any, Any]], tolerance: float = 1e-4) -> Any:
        names: dict[str, list[str]] = {"found": [], "expected": []}
        for kind, arrays in (("found", found), ("expected", expected)):
            for index, array in enumerate(arrays):
                np.save(tmp_path / f"{kind}{index}.npy", array)
                names[kind].append(str(tmp_path / f"{kind}{index}.npy"))
        return ask("judge", bundle=str(bundle.path), tolerance=tolerance, **names)

    for tolerance in (1e-4, 1e-2, 0.2):
        assert judge(things, things, tolerance) == {
            "error": pytest.approx(0, abs=1e-9), "most": pytest.approx(DETECTION.limit_golden(tolerance).most)
        }  # fmt: skip
    twice = [np.concatenate([each, each]) for each in things]
    assert judge(things, twice)["error"] == pytest.approx(1 / 3)  # each of those found is in one pair alone
    assert judge(twice, things)["error"] == pytest.approx(1 / 3)
    assert judge([each[:0] for each in things], things)["error"] == 1
    moved = [boxes + np.float32(0.3), *things[1:]]
    assert judge(moved, things)["error"] > 0.5
    assert judge(moved, things, 0.2)["error"] < 0.5  # in 8 bits a half of each other is enough
    assert "boxes that are none" in judge([boxes[:3], *things[1:]], things)["error"]


@pytest.mark.parametrize("name", ["maskrcnn_micro", "upernet_micro"])
def test_the_app_measures_them(ask: Ask, export: Callable[..., Bundle], tmp_path: Path, name: str) -> None:
    report = profiled(ask, tmp_path, {name: export(name.removesuffix("_micro"))}, library="evm_ops", iterations=3)
    (result,) = report.results
    assert (result.error, len(result.samples_ms)) == (None, 3)
    assert result.golden is not None
    assert result.golden.passed


def test_what_is_found_is_drawn(ask: Ask, export: Callable[..., Bundle], images: list[Path]) -> None:
    def draw(name: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], Any]:
        bundle, pixels = export(name), np.load(place_array(images[0]))
        found = ask("draw", bundle=str(bundle.path), image=place_array(images[0]))
        drawn = np.frombuffer(base64.b64decode(found["rgb"]), np.uint8).reshape(pixels.shape)
        (one,) = predict_images(bundle, images[:1], top=1, library=True)
        return drawn, pixels, one.findings

    drawn, pixels, classes = draw("upernet")
    np.testing.assert_allclose(drawn.astype(int), draw_classes(pixels, classes.label_map).astype(int), atol=1)
    drawn, pixels, found = draw("maskrcnn")
    best = found.things[0]
    left, top = int(best.box[0]), int(best.box[1])
    np.testing.assert_allclose(drawn[top, left], pick_colour(best.index), atol=1)  # the corner of its box, over all
    untouched = np.ones(pixels.shape[:2], bool)
    for thing in found.things:
        x0, y0, x1, y1 = map(int, thing.box)
        untouched[max(y0 - 2, 0) : y1 + 3, max(x0 - 2, 0) : x1 + 3] = False
    np.testing.assert_array_equal(drawn[untouched], pixels[untouched])


def test_a_bundle_of_another_task_is_refused(
    ask: Ask, export: Callable[..., Bundle], digits: Bundle, images: list[Path], tmp_path: Path
) -> None:
    bundle = export("retinanet")
    asked = {"image": place_array(images[0]), "top": 1, "operators": False}
    assert "the network is a detector" in ask("classify", bundle=str(bundle.path), **asked)["error"]
    assert "the network is a classifier" in ask("find", bundle=str(digits.path), images=[asked["image"]])["error"]
    manifest = json.loads((bundle.path / "manifest.json").read_text())
    copy = shutil.copytree(bundle.path, tmp_path / "copy")
    for change in ({"task": "instance_segmentation"}, {"task": "poses"}, {"outputs": manifest["outputs"][::-1]}):
        (copy / "manifest.json").write_text(json.dumps(manifest | change))
        found = ask("find", bundle=str(copy), images=[asked["image"]])
        assert found["error"].startswith("FormatException"), change
