"""Core ML bundles, opened as `predict` and `verify` open them; the framework itself through a stand-in."""

import dataclasses
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evm_deploy.bundle import Bundle, IOSpec, Manifest, Preprocessing, Sample, write_bundle
from evm_deploy.errors import BundleError, OptionError
from evm_deploy.runtimes import apple, coreml
from evm_deploy.tolerances import MIL_FP32

IMAGE = IOSpec("image", (1, 3, 32, 32), "float32", "NCHW", "image")
BAKED = IOSpec("image", (1, 32, 32, 3), "uint8", "NHWC", "image", (0, 255))
LOGITS = IOSpec("logits", (1, 3), "float32", "NC", "logits")
PROBABILITIES = IOSpec("probabilities", (1, 3), "float32", "NC", "probabilities", (0.0, 1.0))
LABELS = ["cat", "dog", "eel"]
Make = Callable[..., Bundle]


class Net(nn.Module):
    """Three scores of an image."""

    def __init__(self, softmax: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head, self.softmax = nn.Conv2d(3, 8, 4, stride=4), nn.Linear(8, 3), softmax

    def forward(self, image: Tensor) -> Tensor:
        """(1, 3, H, W) -> (1, 3)."""
        y: Tensor = self.head(torch.relu(self.conv(image / 64)).mean((2, 3)))
        return y.softmax(-1) if self.softmax else y


@pytest.fixture(scope="session")
def converted(
    ct: Any, convert: Callable[..., Any], quiet: Any, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """converted(baked, labels, colours): Net as a package that nobody changes."""

    @cache
    def made(baked: bool, labels: tuple[str, ...] | None, colours: str) -> Path:
        picture = ct.ImageType("image", (1, 3, 32, 32), color_layout=getattr(ct.colorlayout, colours))
        inputs = [picture if baked else ct.TensorType("image", (1, 3, 32, 32), float)]
        model = convert(
            Net(softmax=labels is not None).eval(),
            torch.zeros(1, 3, 32, 32),
            inputs=inputs,
            outputs=[ct.TensorType("probabilities" if labels else "logits", dtype=float)],
            classifier_config=ct.ClassifierConfig(list(labels)) if labels else None,
        )
        path = tmp_path_factory.mktemp("package") / "model.mlpackage"
        with quiet():
            model.save(str(path))
        return path

    return made


@pytest.fixture
def make(tmp_path: Path, converted: Callable[..., Path], manifest: Manifest) -> Make:
    """A bundle of Net: an array and logits, or an image and classes; `changes` are those of the manifest."""

    def made(baked: bool = False, labels: list[str] | None = None, colours: str = "RGB", **changes: Any) -> Bundle:
        shutil.copytree(converted(baked, labels and tuple(labels), colours), tmp_path / "model.mlpackage")
        return write(tmp_path, tmp_path / "model.mlpackage", baked, labels is not None, manifest, **changes)

    return made


def write(folder: Path, package: Path, baked: bool, classes: bool, manifest: Manifest, **changes: Any) -> Bundle:
    fields: dict[str, Any] = {
        "target": "coreml",
        "model_file": "model.mlpackage",
        "inputs": (BAKED if baked else IMAGE,),
        "outputs": (PROBABILITIES if classes else LOGITS,),
        "preprocessing": Preprocessing((32, 32), baked=baked),
        "opset": None,
    }
    image = np.zeros((1, 32, 32, 3), np.uint8) if baked else np.zeros((1, 3, 32, 32), np.float32)
    with write_bundle(folder / "bundle") as draft:
        package.rename(draft.path / "model.mlpackage")
        draft.write_sample(Sample(image, (np.zeros((1, 3), np.float32),)))
        draft.seal(dataclasses.replace(manifest, **(fields | changes)))
    return Bundle.open(folder / "bundle")


def image(baked: bool) -> Any:
    pixels = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    return pixels if baked else np.ascontiguousarray(pixels.transpose(0, 3, 1, 2).astype(np.float32))


def expected(softmax: bool) -> Any:
    with torch.no_grad():
        return Net(softmax).eval()(torch.from_numpy(image(False))).numpy()


@pytest.mark.parametrize(("baked", "labels"), [(False, None), (True, None), (False, LABELS), (True, LABELS)])
def test_the_evaluator(make: Make, baked: bool, labels: list[str] | None) -> None:
    """An array or an image in; logits, or a classifier's probabilities in the order of its labels, out."""
    with coreml.open_bundle(make(baked, labels)) as runner:
        (found,) = runner.run(image(baked))
        assert runner.name == "mil evaluator"
    assert found.dtype == np.float32
    assert found.shape == (1, 3)
    assert np.abs(found - expected(labels is not None)).max() <= MIL_FP32


def test_ways(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = make()
    monkeypatch.setattr(coreml.platform, "system", lambda: "Linux")
    ways = coreml.find_ways(bundle)
    assert [open_one().name for open_one in ways.open] == ["mil evaluator"]
    assert "Core ML itself was not run, because this is not macOS" in ways.notes[0]
    monkeypatch.setattr(coreml.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(apple, "coremltools", lambda: stand_in({}))
    ways = coreml.find_ways(bundle)
    assert [open_one().name for open_one in ways.open] == ["core ml", "mil evaluator"]
    assert ways.notes == ("operations as Core ML plans them: Neural Engine 2, none 1, CPU 1",)


@pytest.mark.parametrize(
    "changes",
    [
        {"target": "onnx"},
        {"inputs": (dataclasses.replace(IMAGE, name="x"),)},
        {"inputs": (BAKED,), "preprocessing": Preprocessing((32, 32), baked=True)},
        {"inputs": (dataclasses.replace(IMAGE, shape=(1, 3, 64, 64)),), "preprocessing": Preprocessing((64, 64))},
        {"outputs": (dataclasses.replace(LOGITS, name="scores"),)},
        {"outputs": (dataclasses.replace(LOGITS, dtype="float16"),)},
        {"outputs": (dataclasses.replace(LOGITS, shape=(1, 4)),)},
    ],
)
def test_a_manifest_of_another_package(make: Make, tmp_path: Path, changes: dict[str, Any]) -> None:
    bundle = make()
    other = Bundle(bundle.path, dataclasses.replace(bundle.manifest, **changes))
    with pytest.raises(BundleError):
        coreml.open_bundle(other)


def test_an_output_that_the_manifest_does_not_have(
    tmp_path: Path, ct: Any, save_program: Callable[..., Path], manifest: Manifest
) -> None:
    def body(mb: Any, image: Any) -> Any:
        scores = mb.reduce_mean(x=image, axes=[2, 3], name="logits")
        return scores, mb.exp(x=scores, name="more")

    package = save_program(tmp_path / "model.mlpackage", body, {"image": torch.zeros(1, 3, 32, 32)})
    bundle = write(tmp_path, package, False, False, manifest)
    with pytest.raises(BundleError, match=r"it has 'logits' float32 \(1, 3\), 'more' float32 \(1, 3\)"):
        coreml.open_bundle(bundle)


def test_another_image(make: Make) -> None:
    with coreml.open_bundle(make()) as runner:
        for wrong in (image(True), image(False)[:, :, :16], np.concatenate([image(False)] * 2), np.float32(1)):
            with pytest.raises(BundleError, match="the model takes 'image' float32"):
                runner.run(np.asarray(wrong))


def test_labels_that_repeat(make: Make) -> None:
    """A dictionary holds each label once: two classes of one name would be one."""
    with coreml.open_bundle(make(labels=["cat", "dog", "cat"])) as runner:
        with pytest.raises(BundleError, match="2 different labels for 3 classes"):
            runner.run(image(False))


def test_a_function_for_each_size(tmp_path: Path, ct: Any, convert: Any, quiet: Any, manifest: Manifest) -> None:
    functions = ct.utils.MultiFunctionDescriptor()
    with quiet():
        for side in (32, 64):
            model = convert(
                Net().eval(),
                torch.zeros(1, 3, side, side),
                target="iOS18",
                inputs=[ct.TensorType("image", (1, 3, side, side), float)],
                outputs=[ct.TensorType("logits", dtype=float)],
            )
            model.save(str(tmp_path / f"{side}.mlpackage"))
            functions.add_function(str(tmp_path / f"{side}.mlpackage"), "main", f"size_{side}")
        functions.default_function_name = "size_32"
        ct.utils.save_multifunction(functions, str(tmp_path / "model.mlpackage"))
    bundle = write(tmp_path, tmp_path / "model.mlpackage", False, False, manifest)
    with coreml.open_bundle(bundle) as runner:
        for side in (64, 32):
            x = torch.randn(1, 3, side, side) * 64
            with torch.no_grad():
                wanted = Net().eval()(x).numpy()
            assert np.abs(runner.run(x.numpy())[0] - wanted).max() <= MIL_FP32
        with pytest.raises(BundleError, match=r"\(1, 3, 32, 32\) or 'image' float32 \(1, 3, 64, 64\)"):
            runner.run(np.zeros((1, 3, 48, 48), np.float32))


# The framework, of which this machine has none: a stand-in with coremltools' interface


class MLNeuralEngineComputeDevice:
    """As coremltools calls it."""


class MLCPUComputeDevice:
    """As coremltools calls it."""


def stand_in(outputs: dict[str, Any], fail: str = "") -> Any:
    """coremltools as far as it is used, whose models give `outputs` and whose plans have three operations."""
    calls: list[Any] = []

    class MLModel:
        def __init__(self, path: str, compute_units: Any, function_name: str | None) -> None:
            calls.append((path, compute_units, function_name))
            if fail:
                raise RuntimeError(f"{fail}\nand more")

        def predict(self, given: dict[str, Any]) -> dict[str, Any]:
            calls.append(given)
            return outputs

        def get_compiled_model_path(self) -> str:
            return "compiled"

    operations = [
        SimpleNamespace(operator_name=f"ios16.{kind}") for kind in ("const", "conv", "relu", "cumsum", "tile")
    ]
    devices = {
        "conv": MLNeuralEngineComputeDevice(),
        "relu": MLNeuralEngineComputeDevice(),
        "tile": MLCPUComputeDevice(),
    }

    def usage(operation: Any) -> Any:
        device = devices.get(operation.operator_name.partition(".")[2])
        return device and SimpleNamespace(preferred_compute_device=device, supported_compute_devices=[device])

    function = SimpleNamespace(block=SimpleNamespace(operations=operations))
    structure = SimpleNamespace(program=SimpleNamespace(functions={"main": function}))
    plan = SimpleNamespace(model_structure=structure, get_compute_device_usage_for_mlprogram_operation=usage)
    plans = SimpleNamespace(MLComputePlan=SimpleNamespace(load_from_path=lambda path, compute_units: plan))
    units = SimpleNamespace(ALL="all", CPU_ONLY="cpu")
    models = SimpleNamespace(MLModel=MLModel, compute_plan=plans)
    return SimpleNamespace(models=models, ComputeUnit=units, calls=calls)


@pytest.mark.parametrize("baked", [False, True])
def test_the_framework(make: Make, monkeypatch: pytest.MonkeyPatch, baked: bool) -> None:
    """Its dictionary of probabilities comes in any order, and leaves in that of the labels."""
    bundle = make(baked, LABELS)
    library = stand_in({"classLabel": "eel", "classLabel_probs": {"eel": 0.5, "cat": 0.2, "dog": 0.3}})
    monkeypatch.setattr(apple, "coremltools", lambda: library)
    with coreml.open_core_ml(bundle, "CPU_ONLY") as runner:
        (found,) = runner.run(image(baked))
    assert np.allclose(found, [[0.2, 0.3, 0.5]])
    assert library.calls[0] == (str(bundle.model_path), "cpu", None)
    given = library.calls[1]["image"]
    assert np.array_equal(np.asarray(given), image(baked)[0] if baked else image(baked))
    assert hasattr(given, "getpixel") == baked  # a picture, where the package takes one


def test_the_framework_is_given_rgb_and_reorders_it(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = make(True, None, "BGR", preprocessing=Preprocessing((32, 32), channels="BGR", baked=True))
    library = stand_in({"logits": np.ones((1, 3), np.float32)})
    monkeypatch.setattr(apple, "coremltools", lambda: library)
    with coreml.open_core_ml(bundle, "CPU_ONLY") as runner:
        runner.run(image(True))
    assert np.array_equal(np.asarray(library.calls[1]["image"]), image(True)[0, :, :, ::-1])


@pytest.mark.parametrize(("package", "manifest_says"), [("RGB", "BGR"), ("BGR", "RGB")])
def test_a_package_of_another_order_of_channels(make: Make, package: str, manifest_says: Any) -> None:
    steps = Preprocessing((32, 32), channels=manifest_says, baked=True)
    with pytest.raises(BundleError, match=f"{package} image"):
        coreml.open_evaluator(make(True, None, package, preprocessing=steps))


def test_the_framework_gives_arrays(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apple, "coremltools", lambda: stand_in({"logits": np.ones((1, 3), np.float32)}))
    assert np.array_equal(coreml.open_core_ml(make()).run(image(False))[0], np.ones((1, 3)))


def test_the_framework_refuses(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = make()
    monkeypatch.setattr(apple, "coremltools", lambda: stand_in({}, fail="no such operation"))
    with pytest.raises(BundleError, match=r"Core ML cannot load the model: no such operation\. "):
        coreml.open_core_ml(bundle)
    monkeypatch.setattr(apple, "coremltools", lambda: stand_in({}))
    with pytest.raises(BundleError, match="Core ML cannot run the model"):
        coreml.open_core_ml(bundle).run(image(False))
    with pytest.raises(OptionError, match="compute units"):
        coreml.open_core_ml(bundle, "ANE")


def test_the_compute_plan(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apple, "coremltools", lambda: stand_in({}))
    assert coreml.open_core_ml(make()).compute_plan() == {"Neural Engine": 2, "none": 1, "CPU": 1}


def test_the_interface_of_coremltools(ct: Any) -> None:
    """What the stand-in stands in for."""
    import inspect

    assert set(apple.COMPUTE_UNITS) <= set(ct.ComputeUnit.__members__)
    assert {"compute_units", "function_name"} <= set(inspect.signature(ct.models.MLModel).parameters)
    assert {"predict", "get_compiled_model_path"} <= set(dir(ct.models.MLModel))
    plan = ct.models.compute_plan.MLComputePlan
    assert {"load_from_path", "model_structure", "get_compute_device_usage_for_mlprogram_operation"} <= set(dir(plan))
    assert list(inspect.signature(plan.load_from_path).parameters) == ["path", "compute_units"]
    assert all(hasattr(ct.models.compute_device, name) for name in apple.DEVICES)
