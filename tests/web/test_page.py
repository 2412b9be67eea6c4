"""What the page computes, against what this package computes."""

import base64
import dataclasses
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from evm_deploy.images import load_image
from evm_deploy.manifest import Channels, Preprocessing, Resize
from evm_deploy.preprocessing import preprocess
from evm_deploy.resizing import FILTERS, RESIZED
from evm_deploy.tasks.agreement import compare

Modules = Callable[..., Any]
DIGITS = Path(__file__).parents[2] / "examples" / "digits" / "images"
SHARED = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])

BYTES = "Uint8Array.from(atob(given.bytes), (c) => c.charCodeAt(0))"
PREPARE = """async (module, given) => {
  const { preprocess, readSteps } = await import(new URL("preprocess.mjs", location).href);
  const image = await module.decoded(new Blob([BYTES]));
  const { data } = preprocess(image, readSteps(given.preprocessing));
  return { height: image.height, width: image.width, rgb: text(image.data), data: text(new Uint8Array(data.buffer)) };
  function text(bytes) {
    let all = "";
    for (let at = 0; at < bytes.length; at += 8192) all += String.fromCharCode(...bytes.subarray(at, at + 8192));
    return btoa(all);
  }
}""".replace("BYTES", BYTES)


def prepared(
    modules: Modules, file: bytes, preprocessing: Preprocessing, size: tuple[int, ...] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The decoded RGB image and the model's input, as the page has them; `size`: its shape, where images decide it."""
    asked = {"bytes": base64.b64encode(file).decode(), "preprocessing": dataclasses.asdict(preprocessing)}
    found = modules("image.mjs", PREPARE, asked)
    rgb = np.frombuffer(base64.b64decode(found["rgb"]), np.uint8).reshape(found["height"], found["width"], 3)
    h, w = preprocessing.image_size
    kind, shape = (np.uint8, (1, h, w, 3)) if preprocessing.baked else (np.float32, (1, 3, h, w))
    return rgb, np.frombuffer(base64.b64decode(found["data"]), kind).reshape(size or shape)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(height: int, width: int, channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


@given(
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    target=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    crop_pct=st.sampled_from([0.5, 0.875, 0.9, 1.0]),
    interpolation=st.sampled_from(sorted(FILTERS)),
    resize=st.sampled_from(sorted(RESIZED)),
    channels=st.sampled_from(get_args(Channels)),
    baked=st.booleans(),
)
@settings(SHARED, max_examples=50)
def test_any_image_becomes_the_same_input_to_the_bit(
    modules: Modules, size: tuple[int, int], target: tuple[int, int], resize: Resize, **choices: Any
) -> None:
    image = noise(*size, 3, seed=size[0])
    preprocessing = Preprocessing(target, resize=resize, fill=114 if resize == "letterbox" else 0, **choices)
    _, found = prepared(modules, encoded(Image.fromarray(image), "PNG"), preprocessing)
    np.testing.assert_array_equal(found, preprocess(image, preprocessing))


STEPS = """(module, given) => {
  try { return module.readSteps(given); } catch (error) { return error.message; }
}"""


def test_what_the_manifest_asks_for_is_known_or_refused(modules: Modules) -> None:
    steps = json.loads(json.dumps(dataclasses.asdict(Preprocessing((32, 48)))))
    before = {name: value for name, value in steps.items() if name not in ("resize", "fill")}
    assert modules("preprocess.mjs", STEPS, before) == steps
    wrong: list[dict[str, Any]] = [
        {"resize": "stretch"}, {"resize": None}, {"interpolation": "box"}, {"channels": "GBR"}, {"gamma": 2.2},
        {"fill": 9}, {"fill": 256, "resize": "letterbox"}, {"crop_pct": 0}, {"std": [1, 0, 1]}, {"image_size": [0, 9]},
    ]  # fmt: skip
    for change in wrong:
        assert "does not know" in modules("preprocess.mjs", STEPS, {**steps, **change}), change


@pytest.mark.parametrize("size", [(224, 224), (192, 256)])
def test_photographs_are_within_one_level(modules: Modules, size: tuple[int, int]) -> None:
    """Of 255, with the JPEG decoder of the browser."""
    datasets = pytest.importorskip("sklearn.datasets")
    for path in sorted((Path(datasets.__file__).parent / "images").glob("*.jpg")):
        preprocessing = Preprocessing(size, baked=True)
        _, found = prepared(modules, path.read_bytes(), preprocessing)
        expected = preprocess(load_image(path), preprocessing)
        assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1


DECODE = """async (module, all) => {
  const found = {};
  for (const [name, bytes] of Object.entries(all)) {
    try {
      const file = new Blob([Uint8Array.from(atob(bytes), (character) => character.charCodeAt(0))]);
      const { width, height, data } = await module.decoded(file);
      found[name] = { height, width, rgb: btoa(data.reduce((all, byte) => all + String.fromCharCode(byte), "")) };
    } catch (error) {
      found[name] = { error: error.message };
    }
  }
  return found;
}"""


def test_every_kind_of_image(modules: Modules, image_kinds: Any, check_pixels: Any) -> None:
    files = {kind.name: base64.b64encode(kind.data).decode() for kind in image_kinds}
    found = modules("image.mjs", DECODE, files)

    def load(kind: Any) -> np.ndarray | None:
        one = found[kind.name]
        if "error" in one:
            return None
        return np.frombuffer(base64.b64decode(one["rgb"]), np.uint8).reshape(one["height"], one["width"], 3)

    check_pixels("browser", {"png", "jpeg", "gif", "bmp", "webp"}, image_kinds, load)


def test_damaged_png_is_an_error(modules: Modules) -> None:
    whole = encoded(Image.fromarray(noise(64, 64, 4)), "PNG")
    at = whole.index(b"IDAT") + 40
    for damaged in (whole[:-2000], whole[:at] + b"\xff" * 500 + whole[at + 500 :], whole[:8], b"", b"text"):
        with pytest.raises(RuntimeError, match=r"damaged|not an image"):
            prepared(modules, damaged, Preprocessing((32, 32)))


def test_digits_are_the_same(modules: Modules) -> None:
    for path in sorted(DIGITS.glob("*.png"))[:4]:
        _, found = prepared(modules, path.read_bytes(), Preprocessing((64, 64)))
        expected = preprocess(load_image(path), Preprocessing((64, 64)))
        np.testing.assert_array_equal(found, expected)


def test_too_narrow_an_image_is_refused(modules: Modules) -> None:
    file = encoded(Image.fromarray(noise(1, 30_000, 3)), "PNG")
    with pytest.raises(RuntimeError, match="megapixels"):
        prepared(modules, file, Preprocessing((224, 224)))


@given(data=st.binary(max_size=300))
@SHARED
def test_sha256_without_the_browsers_own(modules: Modules, data: bytes) -> None:
    found = modules(
        "sha256.mjs", f"(m, given) => Array.from(m.sha256Here({BYTES}))", {"bytes": base64.b64encode(data).decode()}
    )
    assert bytes(found) == hashlib.sha256(data).digest()


READ = f"(m, given) => {{ const a = m.readNpy({BYTES}.buffer); return [a.type, a.shape, Array.from(a.data)]; }}"


@pytest.mark.parametrize("array", [noise(2, 3, 4), np.float32([[1.5, -2]]), np.zeros((1,), np.float32)], ids=str)
def test_golden_arrays_are_read(modules: Modules, array: np.ndarray) -> None:
    file = io.BytesIO()
    np.save(file, array)
    kind, shape, values = modules("npy.mjs", READ, {"bytes": base64.b64encode(file.getvalue()).decode()})
    assert (kind, tuple(shape)) == (str(array.dtype), array.shape)
    assert values == array.ravel().tolist()


def test_other_arrays_are_errors(modules: Modules) -> None:
    file = io.BytesIO()
    np.save(file, np.zeros((2, 2), np.float32))
    whole = file.getvalue()
    double, fortran = io.BytesIO(), io.BytesIO()
    np.save(double, np.zeros(2))
    np.save(fortran, np.asfortranarray(np.zeros((2, 3), np.float32)))
    for wrong in (whole[:-1], whole + b"x", b"", whole[:9], double.getvalue(), fortran.getvalue()):
        with pytest.raises(RuntimeError, match="golden array"):
            modules("npy.mjs", READ, {"bytes": base64.b64encode(wrong).decode()})


GOLDEN = """(m, given) => m.golden([{ data: given.found.map(Number) }], [{ data: given.wanted }], given)"""


@pytest.mark.parametrize(("found", "wanted"), [([1.0, 2.0], [1.0, 2.5]), ([0.1], [0.2]), ([30.0], [-40.0])])
def test_golden_error_is_the_one_of_verify(modules: Modules, found: list[float], wanted: list[float]) -> None:
    expected = compare(np.float32(found), np.float32(wanted), scores=False).relative
    error = modules("golden.mjs", GOLDEN, {"found": found, "wanted": wanted, "most": 0.1})["relative_error"]
    assert error == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("found", [["NaN", 2], [1, "Infinity"], [1], [1, 2, 3], [1, 2.5]], ids=str)
def test_wrong_outputs_do_not_pass(modules: Modules, found: list[Any]) -> None:
    given = {"found": found, "wanted": [1, 2], "most": 1e-4}
    assert modules("golden.mjs", GOLDEN, given)["passed"] is False


BEST = "(m, given) => m.best({ data: given.scores.map(Number) }, given.meaning, given.labels, 2)"


def test_the_best_classes(modules: Modules) -> None:
    given = {"scores": [0, 2, 1], "meaning": "logits", "labels": ["a", "b", "c"]}
    assert [one["label"] for one in modules("golden.mjs", BEST, given)] == ["b", "c"]
    for change in (
        {"scores": [0, "NaN", 1]},
        {"scores": [1], "labels": ["a"]},
        {"labels": ["a", "b"]},
        {"meaning": "probabilities"},
        {"meaning": "probabilities", "scores": [-0.5, 0, 1]},
    ):
        with pytest.raises(RuntimeError, match=r"scores|labels"):
            modules("golden.mjs", BEST, {**given, **change})


def test_quantiles_are_numpys(modules: Modules) -> None:
    samples = [5.0, 1.0, 4.0, 2.0, 8.0, 7.5]
    shares = [0.0, 0.5, 0.9, 0.99, 1.0]
    source = "(m, [samples, shares]) => shares.map((share) => m.quantile(samples, share))"
    found = modules("measure.mjs", source, [samples, shares])
    assert found == pytest.approx(np.quantile(samples, shares).tolist())
