"""The Core ML package: what the saved program computes, and what is in it."""

import dataclasses
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from evm_deploy import Bundle, ExportOptions, export, inspect, predict, selective_scan_fn
from evm_deploy.errors import BundleError, CheckFailed, InputError, MissingToolError, OptionError
from evm_deploy.exporters.coreml import export as exporter
from evm_deploy.models import EfficientVMamba
from evm_deploy.optional import coremltools
from evm_deploy.runtimes.coreml import open_evaluator
from evm_deploy.scan import static
from evm_deploy.tolerances import (
    COMPRESSION,
    GOLDEN_COREML_FP16,
    GOLDEN_LOGITS,
    PARITY,
    PREDICTED_SHARE,
    RECURRENCE_FP16,
)

pytestmark = pytest.mark.skipif(find_spec("coremltools") is None, reason="coremltools is not installed")
DIGITS = Path(__file__).parents[3] / "examples" / "digits"
SMALL = ExportOptions(target="coreml", image_size=(32, 32), verify=False)
LABELS = "".join(f"label {i}\n" for i in range(10))


@pytest.fixture(scope="session")
def checkpoint(golden: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The golden network of a name, as a file."""

    def write(name: str) -> Path:
        path = tmp_path_factory.mktemp(name) / f"{name}.safetensors"
        save_file(golden.state_dict(name), path)
        return path

    return write


class OneScan(nn.Module):
    """Ten scores of an image by a convolution, a scan and products: a tenth of the operations of the micro network."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.project, self.head = nn.Conv2d(3, 8, 4, stride=4), nn.Linear(8, 16), nn.Linear(8, 10)
        self.A, self.D = nn.Parameter(-torch.rand(8, 4)), nn.Parameter(torch.ones(8))

    def forward(self, image: Tensor) -> Tensor:
        x = torch.relu(self.stem(image)).flatten(2)
        delta, B, C = self.project(x.transpose(1, 2)).transpose(1, 2).split([8, 4, 4], 1)
        y = selective_scan_fn(x, delta - 2, self.A, B, C, self.D, delta_softplus=True)
        assert isinstance(y, Tensor)
        scores: Tensor = self.head(y.mean(2))
        return scores


class Constant(nn.Module):
    """Scores that do not depend on the image."""

    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.ones(1, 4))

    def forward(self, image: Tensor) -> Tensor:
        return self.scores * 2


def test_a_constant_output_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^Constant gives the same logits for every image"):
        export(Constant().eval(), tmp_path / "out", SMALL)
    assert list(tmp_path.iterdir()) == []


def changed(options: ExportOptions, **changes: Any) -> ExportOptions:
    return dataclasses.replace(options, **changes)


def every_operation(package: Path) -> Iterator[Any]:
    (*_, function) = coremltools().utils.load_spec(str(package)).mlProgram.functions.values()
    for block in function.block_specializations.values():
        yield from block.operations


def operations(package: Path) -> Counter[tuple[str, str]]:
    """How often the program has each (operation, type of its first output), constants left out."""
    types = coremltools().proto.MIL_pb2.DataType
    found = (op for op in every_operation(package) if op.type != "const")
    return Counter((op.type, types.Name(op.outputs[0].type.tensorType.dataType)) for op in found)


def largest_rank(package: Path) -> int:
    return max(len(value.type.tensorType.dimensions) for op in every_operation(package) for value in op.outputs)


def consumers_of_compressed(package: Path) -> set[str]:
    made = {value.name for op in every_operation(package) if op.type.startswith("constexpr") for value in op.outputs}
    named = (
        (op.type, binding.name)
        for op in every_operation(package)
        for arg in op.inputs.values()
        for binding in arg.arguments
    )
    return {kind for kind, name in named if name in made}


def package_bytes(package: Path) -> int:
    return sum(file.stat().st_size for file in package.rglob("*") if file.is_file())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["micro", "tiny", "small", "base"])
@pytest.mark.parametrize(
    ("precision", "tolerance"),
    [("fp32", GOLDEN_LOGITS), ("fp16", GOLDEN_COREML_FP16)],
)
def test_goldens(golden: Any, exported: Callable[..., Bundle], name: str, precision: str, tolerance: float) -> None:
    bundle = exported(name, target="coreml", precision=precision, image_size=(224, 224))
    with open_evaluator(bundle) as runner:
        found = torch.from_numpy(runner.run(golden.image(224, 224).numpy())[0])
    assert golden.error(f"{name}_logits_224x224", found) <= tolerance
    assert sum(operations(bundle.model_path).values()) <= (1500 if name == "base" else 1100)
    assert largest_rank(bundle.model_path) == 5


@pytest.mark.slow
def test_goldens_at_every_size_from_one_package(golden: Any, checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    options = ExportOptions(
        target="coreml", deployment_target="iOS18", image_size=(192, 256), more_sizes=((250, 230),), verify=False
    )
    bundle = export(checkpoint("micro"), tmp_path / "two", options).bundle
    with open_evaluator(bundle) as runner:
        for h, w in (options.image_size, *options.more_sizes):
            found = torch.from_numpy(runner.run(golden.image(h, w).numpy())[0])
            assert golden.error(f"micro_logits_{h}x{w}", found) <= GOLDEN_LOGITS
        with pytest.raises(BundleError, match="64"):
            runner.run(golden.image(64, 64).numpy())
    assert (bundle.manifest.build or {})["functions"] == ["size_192x256", "size_250x230"]
    weights = sum(4 * tensor.numel() for tensor in golden.state_dict("micro").values())
    stored = bundle.model_path / "Data/com.apple.CoreML/weights/weight.bin"
    assert stored.stat().st_size < 1.5 * weights  # they are there once, whatever the number of sizes


@pytest.mark.slow
def test_every_size_is_verified(
    checkpoint: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = changed(SMALL, deployment_target="iOS18", more_sizes=((48, 64),), verify=True)
    result = export(checkpoint("micro"), tmp_path / "bundle", options)
    assert result.report is not None
    assert [row.input for row in result.report.rows] == ["random 1x32x32", "random 1x48x64"]
    entering = static._carry_states
    monkeypatch.setattr(
        static, "_carry_states", lambda a, x: torch.zeros_like(x) if x.shape[1] == 12 else entering(a, x)
    )
    with pytest.raises(CheckFailed, match="random 1x48x64"):
        export(checkpoint("micro"), tmp_path / "broken", options)


@pytest.mark.slow
def test_golden_features_of_a_backbone(golden: Any, exported: Callable[..., Bundle]) -> None:
    bundle = exported("backbone_micro", target="coreml", image_size=(250, 230))
    with open_evaluator(bundle) as runner:
        features = runner.run(golden.image(250, 230).numpy())
    for i, feature in enumerate(features):
        assert feature.shape == bundle.manifest.outputs[i].shape
        sampled = torch.from_numpy(feature.ravel()[::97])
        assert golden.error(f"micro_feature{i}_250x230", sampled) <= GOLDEN_LOGITS


@pytest.mark.slow
def test_the_full_cross_scan(two_stages: Callable[..., EfficientVMamba], tmp_path: Path) -> None:
    save_file(two_stages(scan="ss2d").state_dict(), tmp_path / "a.safetensors")
    report = export(tmp_path / "a.safetensors", tmp_path / "b", changed(SMALL, scan="ss2d", verify=True)).report
    assert report is not None
    assert report.passed


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_image_classifier_gives_what_the_onnx_bundle_gives(tmp_path: Path, precision: str) -> None:
    common = {"image_size": (64, 64), "labels": DIGITS / "labels.txt", "bake_preprocessing": True, "softmax": True}
    onnx = export(DIGITS / "digits.safetensors", tmp_path / "onnx", ExportOptions(**common)).bundle
    options = ExportOptions(target="coreml", precision=precision, **common)
    coreml = export(DIGITS / "digits.safetensors", tmp_path / "coreml", options).bundle
    description = coremltools().utils.load_spec(str(coreml.model_path)).description
    assert description.input[0].type.WhichOneof("Type") == "imageType"
    assert (description.predictedFeatureName, coreml.manifest.outputs[0].meaning) == ("classLabel", "probabilities")
    images = sorted((DIGITS / "images").glob("*.png"))
    for a, b in zip(predict(onnx.path, images), predict(coreml.path, images), strict=True):
        assert a.top[0][0] == b.top[0][0]
        assert dict(a.top)[a.top[0][0]] == pytest.approx(dict(b.top)[a.top[0][0]], abs=PREDICTED_SHARE)


def test_labels_make_a_classifier_of_probabilities(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text(LABELS)
    options = changed(SMALL, labels=tmp_path / "labels.txt", precision="fp16", verify=True)
    bundle = export(OneScan(), tmp_path / "bundle", options).bundle
    assert bundle.manifest.outputs[0].name == "probabilities"
    assert bundle.sample().outputs[0].sum() == pytest.approx(1)
    assert operations(bundle.model_path)["softmax", "FLOAT32"] == 1  # float16 has no room for small ones
    plain = export(OneScan(), tmp_path / "plain", SMALL).bundle
    assert plain.manifest.outputs[0].name == "logits"


BREAKS: dict[str, Callable[..., Tensor]] = {
    "_carry_states": lambda decay, end: torch.zeros_like(end),
    "_scan": lambda delta, A, x, B, C: torch.zeros_like(x),
}


@pytest.mark.parametrize(
    ("broken", "precision"),
    [("_carry_states", "fp32"), ("_carry_states", "fp16"), ("_scan", "fp32"), ("_scan", "fp16")],
)
@pytest.mark.parametrize("network", ["one scan", pytest.param("tiny", marks=pytest.mark.slow)])
def test_a_broken_scan_is_not_let_through(
    golden: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: str, precision: str, broken: str
) -> None:
    options = ExportOptions(
        target="coreml", precision=precision, image_size=(224, 224) if network == "tiny" else (64, 64)
    )
    monkeypatch.setattr(static, broken, BREAKS[broken])
    with pytest.raises(CheckFailed, match="does not agree with PyTorch"):
        export(golden.model("tiny") if network == "tiny" else OneScan(), tmp_path / "bundle", options)
    assert not any(tmp_path.glob("*bundle*"))


def test_a_recurrence_that_float16_loses_stays_float32(
    golden: Any, checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    weights = golden.state_dict("micro")
    mixer = "layers.0.blocks.0.op."
    B, C = weights[mixer + "x_proj_weight"][:, -32:].split(16, 1)
    B *= 2**22  # the same function, by states that are out of the range of float16
    C /= 2**22
    save_file(weights, tmp_path / "large.safetensors")
    options = ExportOptions(target="coreml", precision="fp16", image_size=(64, 64))
    result = export(tmp_path / "large.safetensors", tmp_path / "bundle", options)
    build = result.bundle.manifest.build or {}
    assert build["recurrence_float32"] == ["model.layers.0.blocks.0.op"]
    first, second = build["recurrence_float16_error"].values()
    assert first is None  # infinite
    assert second < RECURRENCE_FP16
    found = operations(result.bundle.model_path)
    assert (found["exp", "FLOAT32"], found["exp", "FLOAT16"]) == (2, 2)
    assert result.report is not None
    assert any("layers.0.blocks.0.op" in note for note in result.report.notes)


def test_values_that_leave_the_range_of_float16(tmp_path: Path) -> None:
    module = OneScan()
    with torch.no_grad():
        module.head.weight *= 1e5
        module.head.bias.fill_(6.5e4)  # each fits, their sum does not
    with pytest.raises(CheckFailed, match="leaves the range of float16"):
        export(module, tmp_path / "bundle", changed(SMALL, precision="fp16", verify=True))
    assert not any(tmp_path.glob("*bundle*"))


def test_precisions_in_the_program(tmp_path: Path) -> None:
    for precision, absent in (("fp32", "FLOAT16"), ("fp16", "FLOAT32")):
        bundle = export(OneScan(), tmp_path / precision, changed(SMALL, precision=precision)).bundle
        others = {kind for kind, dtype in operations(bundle.model_path) if dtype == absent}
        assert others <= {"cast"}


def test_another_precision_than_asked_for_is_not_let_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "_may_be_float16", lambda operation: operation.op_type != "linear")
    with pytest.raises(CheckFailed, match="linear in FLOAT32"):
        export(OneScan(), tmp_path / "bundle", changed(SMALL, precision="fp16"))


@pytest.mark.parametrize(
    ("weights", "deployment_target", "least"),
    [
        pytest.param("int8", "iOS16", 1.6, marks=pytest.mark.slow),
        pytest.param("palette6", "iOS16", 1.9, marks=pytest.mark.slow),
        pytest.param("palette4", "iOS16", 2.5, marks=pytest.mark.slow),
        pytest.param("palette4", "iOS18", 2.2, marks=pytest.mark.slow),
    ],
)
def test_compressed_weights(
    checkpoint: Callable[[str], Path], tmp_path: Path, weights: str, deployment_target: str, least: float
) -> None:
    options = changed(SMALL, precision="fp16", deployment_target=deployment_target)
    plain = export(checkpoint("micro"), tmp_path / "plain", options).bundle
    result = export(checkpoint("micro"), tmp_path / "small", changed(options, weights=weights, verify=True))
    assert package_bytes(plain.model_path) >= least * package_bytes(result.bundle.model_path)
    assert result.report is not None
    assert result.report.tolerance == PARITY["fp16"] + COMPRESSION[weights]
    assert consumers_of_compressed(result.bundle.model_path) == {"conv", "linear", "matmul"}  # A is as it was


@pytest.mark.slow
def test_constants_that_a_weight_shares_with_others_stay(micro: Callable[..., EfficientVMamba], tmp_path: Path) -> None:
    """The biases of an untrained network are zeros like those of its norms, so they are one constant."""
    save_file(micro().state_dict(), tmp_path / "untrained.safetensors")
    result = export(tmp_path / "untrained.safetensors", tmp_path / "bundle", changed(SMALL, weights="int8"))
    assert consumers_of_compressed(result.bundle.model_path) == {"conv", "linear", "matmul"}


def test_what_xcode_shows(tmp_path: Path) -> None:
    options = changed(SMALL, author="A. Author", licence="MIT", version="1.2", description="Ten things")
    bundle = export(OneScan(), tmp_path / "bundle", options).bundle
    metadata = coremltools().utils.load_spec(str(bundle.model_path)).description.metadata
    assert (metadata.author, metadata.license) == ("A. Author", "MIT")
    assert (metadata.versionString, metadata.shortDescription) == ("1.2", "Ten things")
    assert metadata.userDefined["evm-deploy.checkpoint.sha256"] == bundle.manifest.checkpoint.sha256


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"deployment_target": "iOS61"}, "iOS61"),
        ({"more_sizes": ((64, 64),), "deployment_target": "macOS14"}, "macOS14"),
        ({"weights": "palette5"}, "palette5"),
        ({"more_sizes": ((64, 64),)}, "iOS16"),
        ({"more_sizes": ((32, 32),), "deployment_target": "iOS18"}, "twice"),
        ({"more_sizes": ((8, 8),), "deployment_target": "iOS18"}, "8x8"),
        ({"dynamic_batch": True}, "dynamic-batch"),
        ({"opset": 18}, "opset"),
        ({"precision": "int8"}, "int8"),
        ({"target": "onnx", "weights": "int8"}, "weights"),
        ({"target": "tensorrt", "author": "somebody"}, "author"),
    ],
)
def test_options_that_do_not_exist(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        changed(SMALL, **changes)


def test_labels_of_a_classifier_differ(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    labels = LABELS.replace("label 2", "label \xc5").replace("label 7", "label \u212b")  # Swift takes them for equal
    (tmp_path / "labels.txt").write_text(labels, "utf-8")
    with pytest.raises(InputError, match="is on line 3 and again on line 8"):
        export(checkpoint("micro"), tmp_path / "bundle", changed(SMALL, labels=tmp_path / "labels.txt"))
    assert not any(tmp_path.glob("*bundle*"))


def test_macos_equals(tmp_path: Path) -> None:
    bundle = export(OneScan(), tmp_path / "bundle", changed(SMALL, deployment_target="macOS15")).bundle
    facts = inspect(bundle.model_path)
    assert facts.kind == "coreml"
    assert facts.facts["specification_version"] == 9
    assert inspect(bundle.path).facts["coreml"] == facts.facts


def test_without_coremltools(
    checkpoint: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coremltools.cache_clear()
    monkeypatch.setitem(sys.modules, "coremltools", None)
    try:
        with pytest.raises(MissingToolError, match="pip install coremltools"):
            export(checkpoint("micro"), tmp_path / "bundle", SMALL)
    finally:
        coremltools.cache_clear()
    assert not any(tmp_path.glob("*bundle*"))
