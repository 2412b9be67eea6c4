"""OpenVINO runs what `--target openvino` and `quantize --target openvino` write, as onnxruntime does."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.datasets import load_sample_images

import evm_deploy
from evm_deploy import Bundle, QuantizeOptions
from evm_deploy.errors import BundleError, MissingToolError, OptionError
from evm_deploy.runtimes.onnxruntime import OnnxRunner
from evm_deploy.runtimes.openvino import OpenVinoRunner, find_ways, open_bundle
from evm_deploy.tolerances import PARITY

pytest.importorskip("openvino")


@pytest.mark.parametrize(
    ("name", "side"),
    [("micro", 64), *(pytest.param(name, 224, marks=pytest.mark.slow) for name in ("tiny", "small", "base"))],
)
def test_it_gives_what_pytorch_gives(exported: Callable[..., Bundle], name: str, side: int) -> None:
    bundle = exported(name, target="openvino", image_size=(side, side))
    assert bundle.manifest.scan_form == "inlined"
    sample = bundle.sample()
    names = []
    for open_way in find_ways(bundle).open:
        with open_way() as runner:
            (found,) = runner.run(sample.input)
            names.append(runner.name)
        assert np.abs(found - sample.outputs[0]).max() <= PARITY["fp32"] * max(1, np.abs(sample.outputs[0]).max())
    assert names == ["onnxruntime", "openvino"]


def test_what_it_cannot_do_is_said_in_a_line(exported: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = exported("micro", target="openvino")
    with open_bundle(bundle) as runner, pytest.raises(BundleError, match=r"cannot run the model on float32 \(1, 3, 9"):
        runner.run(np.zeros((1, 3, 9, 64), np.float32))
    with pytest.raises(BundleError, match="No conversion rule found for operations: evm"):
        OpenVinoRunner(exported("micro").read_model())
    with pytest.raises(OptionError, match="made of a bundle for onnx"):
        evm_deploy.quantize(bundle.path, [np.zeros((64, 64, 3), np.uint8)], bundle.path.parent / "int8")
    search, images = QuantizeOptions(target="openvino", search=True), [np.zeros((64, 64, 3), np.uint8)]
    with pytest.raises(OptionError, match="measures on onnxruntime; the result is for openvino"):
        evm_deploy.quantize(exported("micro").path, images, bundle.path.parent / "b", search)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingToolError, match="openvino cannot be imported"):
        open_bundle(bundle)


@pytest.mark.slow
def test_integers_are_those_of_onnxruntime(exported: Callable[..., Bundle], tmp_path: Path) -> None:
    photographs = [
        np.ascontiguousarray(image[:192:2, x : x + 192 : 2])
        for image in load_sample_images().images
        for x in (0, 140, 280, 420)
    ]
    options = QuantizeOptions(target="openvino")
    bundle = evm_deploy.quantize(exported("micro").path, photographs, tmp_path / "int8", options).bundle
    assert (bundle.manifest.target, bundle.manifest.scan_form) == ("openvino", "inlined")
    assert any("on integers" in note for note in bundle.manifest.calibration["notes"])
    images = np.random.default_rng(0).standard_normal((8, 1, 3, 64, 64), dtype=np.float32)
    with open_bundle(bundle) as ours, OnnxRunner(bundle.model_path, library=False) as theirs:
        errors = [relative(ours.run(image)[0], theirs.run(image)[0]) for image in images]
    # A value on the border of two integers may be rounded to either, which onnxruntime's own optimiser does as well.
    assert min(errors) <= 1e-3
    assert max(errors) <= 0.05


def relative(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())
