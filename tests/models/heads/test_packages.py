"""Packages of detectors and segmenters: their loaders find in images what `predict` does, without this package."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import evm_deploy
from evm_deploy.bundle import Bundle
from evm_deploy.errors import OptionError
from evm_deploy.images import load_image
from evm_deploy.packaging.package_options import PackageOptions
from evm_deploy.showing.drawing import draw_mask, pick_colour
from evm_deploy.showing.findings import DetectedThings, Findings

NAMES = ("retinanet", "maskrcnn", "upernet")
BAKED: Any = {"image_size": (96, 128), "dynamic_size": True, "scale": (96, 64), "bake_preprocessing": True}
COMPILES = pytest.mark.skipif(
    not (shutil.which("cmake") and shutil.which("c++")), reason="there is no cmake, or no c++"
)
SIZES = ((61, 83), (97, 45), (1, 2000), (2000, 1), (64, 64))  # (h, w) of the images, the last without anything in it


@pytest.fixture(scope="module")
def bundles(exported: Callable[..., Bundle], retinanet: Any, mask_rcnn: Any, upernet: Any) -> list[Path]:
    sizes = [min(photo.size for photo in head.photos("micro")) for head in (retinanet, mask_rcnn, upernet)]
    named = zip(NAMES, sizes, strict=True)
    return [exported(f"{name}_micro", image_size=size, verify=True).path for name, size in named]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, random = tmp_path_factory.mktemp("images"), np.random.default_rng(3)
    for index, size in enumerate(SIZES):
        pixels = random.integers(0, 256, (*size, 3), np.uint8) if index < len(SIZES) - 1 else np.zeros((*size, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def packed(bundles: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(bundles, tmp_path_factory.mktemp("packages") / "linux")


def pack(bundles: list[Path], out: Path, platform: str = "linux") -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evm_deploy.compiling.find_zig_version", lambda: None)
        evm_deploy.package(bundles, out, PackageOptions(platform=platform))
    return out


@pytest.fixture(scope="module")
def evm_run(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of the package, built."""
    build = tmp_path_factory.mktemp("build")
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}  # for onnxruntime
    for words in (["-S", packed, "-B", build], ["--build", build, "-j2"]):
        subprocess.run(["cmake", *map(str, words)], capture_output=True, check=True, env=environment)
    return build / "evm_run"


@pytest.fixture(scope="module")
def expected(bundles: list[Path], images: list[Path]) -> list[list[dict[str, Any]]]:
    """What `predict --json` says of each image, by bundle."""
    return [predict(bundle, images) for bundle in bundles]


def predict(bundle: Path, images: list[Path]) -> list[dict[str, Any]]:
    return [json.loads(json.dumps(one.findings.to_dict())) for one in evm_deploy.predict(bundle, images)]


def call(*words: str | Path) -> Any:
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["predictions"] if "--json" in words else done.stdout


def check_same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """Equal but for the last digits of numbers."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        (name,) = other
        assert len(one[name]) == len(other[name])
        for row, wanted in zip(one[name], other[name], strict=True):
            numbers = {key for key in wanted if key in ("bbox", "score", "share")}
            assert {key: row[key] for key in row.keys() - numbers} == {
                key: wanted[key] for key in wanted.keys() - numbers
            }
            for key in numbers:
                assert row[key] == pytest.approx(wanted[key], rel=1e-5, abs=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_the_python_loader_finds_what_predict_finds(
    name: str, packed: Path, images: list[Path], expected: Any, tmp_path: Path
) -> None:
    model, place = packed / f"models/{name}_micro", NAMES.index(name)
    found = call(
        sys.executable, "-B", packed / "python/evm_model.py", model, *images, "--json", "--save", tmp_path / "out"
    )
    check_same(found, expected[place])
    assert any(each.get("detections") or each.get("classes") for each in expected[place])
    saved = [path for each in found for path in each["saved"]]
    assert sorted(saved) == sorted(map(str, (tmp_path / "out").iterdir()))
    for each, image in zip(found, images, strict=True):
        for path in each["saved"]:
            with Image.open(path) as drawn, Image.open(image) as shown:
                assert drawn.size == shown.size
    assert "passed" in call(sys.executable, "-B", packed / "python/evm_model.py", "--golden", model)


@pytest.mark.slow
@COMPILES
def test_the_cpp_loader_finds_what_predict_finds(
    packed: Path, evm_run: Path, images: list[Path], expected: Any
) -> None:
    for name, wanted in zip(NAMES, expected, strict=True):
        model = packed / f"models/{name}_micro"
        check_same(call(evm_run, model, *images, "--json"), wanted)
        assert "passed" in call(evm_run, "--golden", model)


@pytest.mark.slow
@COMPILES
def test_the_cpp_loader_draws_as_predict_does_but_for_names(
    packed: Path, bundles: list[Path], evm_run: Path, images: list[Path], tmp_path: Path
) -> None:
    for name, bundle in zip(NAMES, bundles, strict=True):
        out = tmp_path / name
        call(evm_run, packed / f"models/{name}_micro", *images, "--save", out)
        for number, one in enumerate(evm_deploy.predict(bundle, images)):
            assert one.findings is not None
            start = f"{number:03d}-{images[number].stem}"
            check_drawing(load_image(out / f"{start}.png"), load_image(images[number]), one.findings)
            if one.findings.label_map is not None:
                with Image.open(out / f"{start}.classes.png") as classes:
                    np.testing.assert_array_equal(classes, one.findings.label_map)


def check_drawing(drawn: Any, pixels: Any, found: Findings) -> None:
    if not isinstance(found, DetectedThings):
        np.testing.assert_array_equal(drawn, found.draw(pixels))
        return
    line = 2 + max(pixels.shape) // 400
    edges = np.zeros(pixels.shape[:2], bool)
    for thing in reversed(found.things):
        pixels = pixels if thing.mask is None else draw_mask(pixels, thing.mask, thing.index)
        x0, y0, x1, y1 = map(int, thing.box)
        ring = np.zeros_like(edges)
        ring[max(y0 - 1, 0) : y1 + 2, max(x0 - 1, 0) : x1 + 2] = True
        ring[y0 + line : y1 - line, x0 + line : x1 - line] = False
        edges |= ring
    np.testing.assert_array_equal(drawn[~edges], pixels[~edges])
    if found.things:
        best = found.things[0]
        assert tuple(drawn[int(best.box[1]), int(best.box[0])]) == pick_colour(best.index)


@pytest.mark.slow
@COMPILES
@pytest.mark.parametrize("name", NAMES)
def test_the_loaders_give_pixels_to_what_resizes_them_itself(
    name: str, exported: Callable[..., Bundle], evm_run: Path, images: list[Path], tmp_path: Path
) -> None:
    bundle = exported(f"{name}_micro", **BAKED).path
    model = pack([bundle], tmp_path / "package") / f"models/{name}_micro"
    if name == "upernet":  # it does not pad, and has no maps of a side of one pixel
        images = [image for image, size in zip(images, SIZES, strict=True) if min(size) > 1]
    expected = predict(bundle, images)
    for loader in ([sys.executable, "-B", tmp_path / "package/python/evm_model.py"], [evm_run]):
        check_same(call(*loader, model, *images, "--json"), expected)
        assert "passed" in call(*loader, "--golden", model)


@pytest.mark.slow
@COMPILES
def test_the_loaders_run_what_follows_a_model_for_tensorrt(
    exported: Callable[..., Bundle], evm_run: Path, images: list[Path], tmp_path: Path
) -> None:
    """They find what the bundle for onnxruntime finds, which is one graph."""
    whole, parts = (exported("maskrcnn_micro", image_size=(96, 128), target=target) for target in ("onnx", "tensorrt"))
    assert parts.manifest.last_steps is not None
    model = pack([parts.path], tmp_path / "package", "jetson") / "models/maskrcnn_micro"
    assert (model / "build_engine.sh").stat().st_mode & 0o111
    expected = predict(whole.path, images)
    for loader in ([sys.executable, "-B", tmp_path / "package/python/evm_model.py"], [evm_run]):
        check_same(call(*loader, model, *images, "--json"), expected)
        assert "passed" in call(*loader, "--golden", model)


@pytest.mark.parametrize("platform", ["android", "web"])
def test_other_packages_take_them_too(
    platform: str, bundles: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evm_deploy.web.runtime.fetch_files", lambda say: {})
    made = evm_deploy.package(bundles, tmp_path / "package", PackageOptions(platform=platform))
    assert set(made.index.models) == {f"{name}_micro" for name in NAMES}
    with pytest.raises(OptionError, match="ios accepts coreml"):
        evm_deploy.package(bundles, tmp_path / "phone", PackageOptions(platform="ios"))
    assert not (tmp_path / "phone").exists()
