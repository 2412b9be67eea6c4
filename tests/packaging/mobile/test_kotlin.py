"""The Kotlin of the Android package compiled, against stand-ins for Android, and run on this machine.

The compiler is in the wheel `kotlin-jupyter-kernel`; Java comes with the system. onnxruntime is the one of Python.
"""

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

from evm_deploy.bundle import Bundle
from evm_deploy.files import sha256_file
from evm_deploy.images import load_image
from evm_deploy.manifest import Preprocessing
from evm_deploy.prediction import predict_images
from evm_deploy.profiling.profile_options import ProfileOptions
from evm_deploy.profiling.report import ProfileReport
from evm_deploy.profiling.requests import DeviceContender, write_request

DIGITS = Path(__file__).parents[3] / "examples" / "digits"
pytestmark = pytest.mark.slow
Ask = Callable[..., dict[str, Any]]


def test_the_preparation_of_images_is_the_exporters_to_the_bit(ask: Ask) -> None:
    assert ask("vectors") == {"passed": True}


def test_every_kind_of_image(ask: Ask, tmp_path: Path, image_kinds: Any, check_pixels: Any) -> None:
    """JPEG by Java's decoder in the place of Android's."""

    def load(kind: Any) -> np.ndarray[Any, Any] | None:
        (tmp_path / kind.name).write_bytes(kind.data)
        found = ask("image", file=str(tmp_path / kind.name))
        if "error" in found:
            assert found["error"].startswith("FormatException"), (kind.name, found)
            return None
        return np.frombuffer(base64.b64decode(found["rgb"]), np.uint8).reshape(found["height"], found["width"], 3)

    check_pixels("kotlin", {"png", "jpeg"}, image_kinds, load)


def test_bitmaps_that_have_lost_colours_are_refused(ask: Ask) -> None:
    assert ask("bitmap", colour=0xFF102030, premultiplied=True, config="ARGB_8888") == {"rgb": [16, 32, 48]}
    assert ask("bitmap", colour=0x00102030, premultiplied=False, config="ARGB_8888") == {"rgb": [16, 32, 48]}
    assert "translucent" in ask("bitmap", colour=0x80102030, premultiplied=True, config="ARGB_8888")["error"]
    for config in ("RGB_565", "HARDWARE", "RGBA_F16"):
        assert "ARGB_8888" in ask("bitmap", colour=0xFF102030, premultiplied=True, config=config)["error"]


def test_a_preparation_that_is_not_known_is_refused(ask: Ask) -> None:
    steps = json.loads(json.dumps(dataclasses.asdict(Preprocessing((32, 48)))))
    assert ask("steps", steps=steps) == {"baked": False}
    before = {name: value for name, value in steps.items() if name not in ("resize", "fill")}
    assert ask("steps", steps=before) == {"baked": False}
    wrong: list[dict[str, Any]] = [
        {"resize": "stretch"}, {"resize": None}, {"interpolation": "box"}, {"channels": "GBR"}, {"gamma": 2.2},
        {"fill": 9}, {"fill": 256, "resize": "letterbox"}, {"crop_pct": 0}, {"std": [1, 0, 1]}, {"image_size": [0, 9]},
    ]  # fmt: skip
    for change in wrong:
        assert ask("steps", steps={**steps, **change})["error"].startswith("FormatException"), change


def test_what_are_no_scores_is_refused(ask: Ask) -> None:
    assert ask("best", scores=[0, 2, 1], logits=True) == {"found": ["class 1", "class 2"]}
    assert "no scores" in ask("best", scores=[1], logits=True)["error"]
    assert "no probabilities" in ask("best", scores=[0, 2, 1], logits=False)["error"]


@pytest.mark.parametrize("operators", [True, False])
def test_an_image_gets_the_classes_that_predict_gives(
    ask: Ask, digits: Bundle, tmp_path: Path, operators: bool
) -> None:
    path = DIGITS / "images" / "held_out_003_is_3.png"
    np.save(tmp_path / "image.npy", load_image(path))
    found = ask("classify", bundle=str(digits.path), image=str(tmp_path / "image.npy"), top=3, operators=operators)
    (expected,) = predict_images(digits, [path], top=3, library=operators)
    assert [label for label, _, _ in found["found"]] == [label for label, _ in expected.top]
    np.testing.assert_allclose([p for _, _, p in found["found"]], [p for _, p in expected.top], rtol=1e-4)


def test_a_changed_byte_is_found(ask: Ask, digits: Bundle, tmp_path: Path) -> None:
    copy = shutil.copytree(digits.path, tmp_path / "copy")
    data = bytearray((copy / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (copy / "model.onnx").write_bytes(data)
    np.save(tmp_path / "image.npy", np.zeros((64, 64, 3), np.uint8))
    found = ask("classify", bundle=str(copy), image=str(tmp_path / "image.npy"), top=1, operators=False)
    assert found == {"error": "FormatException: model.onnx is not the file that was exported"}


def profiled(ask: Ask, root: Path, bundles: dict[str, Bundle], *, library: str | None, **options: Any) -> ProfileReport:
    """What the app writes when it is asked as `evm-deploy profile --device adb` asks it."""
    folder = root / "run"
    folder.mkdir()
    for name, bundle in bundles.items():
        shutil.copytree(bundle.path, folder / name)
    contenders = [DeviceContender(name, bundle, name, "onnxruntime", None, library) for name, bundle in bundles.items()]
    asked = write_request("adb", contenders, ProfileOptions("adb", **options), lambda bundle: bundle.path.name)
    (folder / "request.json").write_text(asked)
    assert ask("job", root=str(root), name="run") == {"done": True}
    assert {path.name for path in folder.iterdir()} == {"request.json", "profile.json", *bundles}
    return ProfileReport.from_json((folder / "profile.json").read_bytes())


def test_the_app_writes_a_profile(ask: Ask, digits: Bundle, tmp_path: Path) -> None:
    report = profiled(ask, tmp_path, {"digits": digits}, library="evm_ops", iterations=7)
    (result,) = report.results
    assert report.device.kind == "adb"
    assert report.method.iterations == 7
    assert report.method.seconds is None
    assert result.golden is not None
    assert result.golden.passed
    assert (result.error, result.runtime, len(result.samples_ms)) == (None, "onnxruntime + evm_ops", 7)
    assert min(result.samples_ms) > 0
    assert result.size_bytes == digits.model_path.stat().st_size
    assert result.memory is not None
    assert report.warnings == ("7 samples are few for the 99th percentile",)


def test_seconds_instead_of_iterations(ask: Ask, digits: Bundle, tmp_path: Path) -> None:
    report = profiled(ask, tmp_path, {"digits": digits}, library=None, seconds=0.1)
    assert report.method.iterations is None
    assert len(report.results[0].samples_ms) >= 2


def test_wrong_outputs_are_not_timed(ask: Ask, digits: Bundle, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(digits.path, tmp_path / "wrong"))
    output = np.load(copy / "sample/output.npy")
    np.save(copy / "sample/output.npy", output + 1)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"]["sample/output.npy"] = sha256_file(copy / "sample/output.npy")
    (copy / "manifest.json").write_text(json.dumps(manifest))
    root = tmp_path / "root"
    root.mkdir()
    report = profiled(ask, root, {"digits": digits, "wrong": Bundle.open(copy)}, library=None, iterations=3)
    good, bad = report.results
    assert len(good.samples_ms) == 3
    assert bad.error == "its outputs are not those of the golden pair"
    assert bad.samples_ms == ()
    assert bad.golden is not None
    assert not bad.golden.passed


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"contenders": []},
        {"options": {"iterations": 1, "warm_up": 5, "threads": 0, "affinity": []}},
        {"options": {"iterations": 10**12, "warm_up": 5, "threads": 0, "affinity": []}},
        {"folder": "../../elsewhere"},
        {"runner": "trtexec"},
        {"provider": "NnapiExecutionProvider"},
    ],
    ids=str,
)
def test_a_request_that_it_cannot_do_is_an_error_and_no_profile(
    ask: Ask, digits: Bundle, tmp_path: Path, change: dict[str, Any]
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    contender = DeviceContender("digits", digits, "digits", "onnxruntime")
    asked = json.loads(write_request("adb", [contender], ProfileOptions("adb"), lambda bundle: "digits"))
    for key, value in change.items():
        (asked if key in asked else asked["contenders"][0])[key] = value
    (folder / "request.json").write_text(json.dumps(asked))
    assert ask("job", root=str(tmp_path), name="run") == {"done": False}
    assert {path.name for path in folder.iterdir()} == {"request.json", "error.txt"}
    assert (folder / "error.txt").read_text()


@pytest.mark.parametrize("name", ["../x", "", "a/b", ".", "x" * 65])
def test_a_request_names_a_folder_of_its_own(ask: Ask, tmp_path: Path, name: str) -> None:
    assert "is not the name of a request" in ask("job", root=str(tmp_path), name=name)["error"]


@pytest.mark.parametrize(
    "value", [0, -17, 2.5, 1e300, True, None, "", 'q"\\/\b\f\n\r\té\u2028😀', [], {}, {"a": [{}, [1, [2]]], "": "x"}]
)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_json_is_read_and_written_as_python_does(ask: Ask, value: Any, ascii_only: bool) -> None:
    assert ask("json", text=f" \n{json.dumps(value, ensure_ascii=ascii_only)}\t") == {"value": value}


NOT_JSON = [
    "",
    "{",
    "[1,]",
    "[1 2]",
    '{"a":1,"a":2}',
    "{a:1}",
    "'x'",
    '"\n"',
    '"\\x"',
    '"\\u12"',
    "01",
    "1.",
    "+1",
    "NaN",
]


@pytest.mark.parametrize("text", [*NOT_JSON, "1e999", "tru", "1 2", "[" * 100 + "]" * 100])
def test_what_is_not_json_is_refused(ask: Ask, text: str) -> None:
    assert ask("json", text=text)["error"].startswith("FormatException: not JSON")


@pytest.mark.parametrize(
    "array",
    [
        np.array([[1.5, -2e-8], [3e38, 0]], np.float32),
        np.array([1.5, -2.0, 6e-8, 65504, 0], np.float16),
        np.arange(24, dtype=np.uint8).reshape(2, 3, 4) * 10,
        np.float32(7).reshape(()),
        np.array([[-3, 70000], [0, 1]], np.int32),
        np.array([5, -1, 1 << 20], np.int64),
        np.zeros((0, 3), np.float32),
    ],
    ids=lambda array: f"{array.dtype} {array.shape}",
)
def test_arrays_are_read_as_numpy_does(ask: Ask, tmp_path: Path, array: np.ndarray[Any, Any]) -> None:
    np.save(tmp_path / "x.npy", array)
    found = ask("npy", file=str(tmp_path / "x.npy"))
    assert found["shape"] == list(array.shape)
    np.testing.assert_array_equal(np.array(found["values"], np.float32), array.astype(np.float32).ravel())


def test_what_is_no_such_array_is_refused(ask: Ask, tmp_path: Path) -> None:
    np.save(tmp_path / "good.npy", np.arange(6, dtype=np.float32).reshape(2, 3))
    good = (tmp_path / "good.npy").read_bytes()
    broken = {
        "nothing": b"",
        "another magic": b"\x94" + good[1:],
        "cut header": good[:40],
        "cut data": good[:-1],
        "more data": good + b"\0",
        "promises more": good.replace(b"(2, 3)", b"(9, 9)"),
        "promises far more": good.replace(b"(2, 3), }" + b" " * 14, b"(1000000000, 100000), }"),
        "another type": good.replace(b"<f4", b"<i2"),
        "another order": good.replace(b"False", b"True "),
        "code": good.replace(b"'<f4'", b"f()  "),
    }
    for what, data in broken.items():
        (tmp_path / "x.npy").write_bytes(data)
        assert ask("npy", file=str(tmp_path / "x.npy")).get("error", what).startswith("FormatException"), what
