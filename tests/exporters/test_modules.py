"""Anybody's module, with scans or without: exported, run, quantised, measured and packaged as a checkpoint is."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import evm_deploy
from evm_deploy import Bundle, ExportOptions, PackageOptions, ProfileOptions, selective_scan_fn
from evm_deploy.errors import CheckFailed, InputError
from evm_deploy.models.batch_norms import fold_pairs
from evm_deploy.tolerances import INT8_COSINE

SIZE = (32, 32)


class Scan(nn.Module):
    """A scan over tokens with states of its own number."""

    def __init__(self, dim: int, states: int) -> None:
        super().__init__()
        self.A_log = nn.Parameter(torch.arange(1.0, states + 1).log().repeat(dim, 1))
        self.D = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.full((dim,), -2.0))
        self.project = nn.Linear(dim, dim + 2 * states)
        self.states = states

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, dim) -> (B, L, dim)."""
        parts = self.project(x).split([x.shape[2], self.states, self.states], -1)
        delta, B, C = (part.transpose(1, 2) for part in parts)
        u, A = x.transpose(1, 2), -self.A_log.exp()
        y = selective_scan_fn(u, delta, A, B, C, self.D, delta_bias=self.bias, delta_softplus=True)
        assert isinstance(y, Tensor)
        return y.transpose(1, 2)


class TwoScans(nn.Module):
    """Rows and columns of a map, scanned, gated and added to it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, stride=4)
        self.norm = nn.BatchNorm2d(8)
        self.rows, self.columns = Scan(8, 4), Scan(8, 8)
        self.gate = nn.Linear(8, 8)
        self.head = nn.Linear(8, 5)

    def forward(self, image: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(image))).permute(0, 2, 3, 1)
        B, H, W, C = x.shape
        rows = self.rows(x.flatten(1, 2)).reshape(B, H, W, C)
        columns = self.columns(x.transpose(1, 2).flatten(1, 2)).reshape(B, W, H, C).transpose(1, 2)
        scores: Tensor = self.head((x + (rows + columns) * F.silu(self.gate(x))).mean((1, 2)))
        return scores


class Block(nn.Module):
    """A residual block, as torchvision has it."""

    def __init__(self, given: int, made: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(given, made, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(made)
        self.conv2 = nn.Conv2d(made, made, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(made)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1:
            self.downsample = nn.Sequential(nn.Conv2d(given, made, 1, stride, bias=False), nn.BatchNorm2d(made))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out: Tensor = self.relu(y + self.downsample(x))
        return out


class ResNet(nn.Module):
    """Without any scan."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(Block(8, 8), Block(8, 16, 2))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        scores: Tensor = self.fc(self.avgpool(self.layer1(x)).flatten(1))
        return scores


def trained(module: nn.Module) -> nn.Module:
    """As if its norms had seen images; in training mode, as it comes from a training script."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            assert part.running_mean is not None
            assert part.running_var is not None
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    return module.train()


@pytest.fixture(scope="module", params=[TwoScans, ResNet])
def module(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return trained(request.param())


@pytest.fixture(scope="module")
def plain(module: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The module as an ONNX bundle of fixed size."""
    out = tmp_path_factory.mktemp("plain") / "bundle"
    return evm_deploy.export(module, out, ExportOptions(image_size=SIZE)).bundle


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


def operators(bundle: Bundle) -> list[str]:
    return [node.op_type for node in onnx.load(bundle.model_path).graph.node]


def test_a_module_is_exported_and_stays_as_it_was(module: nn.Module, plain: Bundle) -> None:
    name = type(module).__name__
    assert module.training
    assert all(part.training for part in module.modules())
    assert plain.manifest.task == "classification"
    assert plain.manifest.checkpoint.file == plain.manifest.model["class"] == name
    assert plain.manifest.parity
    assert plain.manifest.parity["passed"]
    assert operators(plain).count("SelectiveScan") == (2 if name == "TwoScans" else 0)
    assert "BatchNormalization" not in operators(plain)  # of all convolutions
    with torch.inference_mode():
        expected = module.eval()(torch.from_numpy(plain.sample().input))
    module.train()
    np.testing.assert_allclose(plain.sample().outputs[0], expected.numpy(), atol=1e-5)


def test_a_bundle_is_verified_against_its_module_alone(module: nn.Module, plain: Bundle) -> None:
    report: Any = evm_deploy.verify(plain.path, checkpoint=module)
    assert report.passed
    assert report.reference == "PyTorch"
    other = trained(type(module)())
    with pytest.raises(InputError, match=r"no longer, the module that .* was made from"):
        evm_deploy.verify(plain.path, checkpoint=other)


@pytest.mark.parametrize(
    "options",
    [
        {"dynamic_batch": True, "dynamic_size": True},
        {"precision": "fp16"},
        {"bake_preprocessing": True, "softmax": True},
        pytest.param({"target": "coreml"}, marks=pytest.mark.slow),
        {"target": "coreml", "precision": "fp16", "bake_preprocessing": True, "channels": "BGR", "mean": (0.1, 0.5, 1)},
        {"target": "tensorrt", "precision": "fp16", "compute_capabilities": ("8.6",)},
    ],
    ids=["dynamic", "fp16", "baked", "coreml", "coreml fp16", "tensorrt"],
)
def test_every_form_agrees_with_pytorch(module: nn.Module, tmp_path: Path, options: dict[str, Any]) -> None:
    needed = {"coreml": "coremltools", "tensorrt": "tensorrt_rtx"}.get(options.get("target", ""))
    if needed and find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed")
    result = evm_deploy.export(module, tmp_path / "bundle", ExportOptions(image_size=SIZE, **options))
    assert result.report is not None
    assert result.report.passed
    if "dynamic_size" in options:
        assert {row.input for row in result.report.rows} == {"random 1x32x32", "random 3x32x32", "random 3x59x33"}
        assert result.bundle.manifest.outputs[0].shape == ("batch", 5)


def test_int8(module: nn.Module, plain: Bundle, pictures: Path, tmp_path: Path) -> None:
    result = evm_deploy.quantize(plain.path, str(pictures), tmp_path / "int8")
    calibration, report = result.bundle.manifest.calibration, result.report
    assert calibration
    assert report is not None
    assert report.passed
    assert min(row.cosine for row in report.rows) >= INT8_COSINE
    assert len(calibration["layers"]) >= 3
    assert all(len(report["float_nodes"]) <= 6 for report in calibration["integers"])


def test_profiled_by_the_names_of_its_blocks(module: nn.Module, plain: Bundle) -> None:
    options = ProfileOptions(iterations=2, warm_up=1, operators=True)
    profile = evm_deploy.profile(plain.path, options)
    assert [result.error for result in profile.results] == [None] * len(profile.results)
    found = profile.results[0].operators
    assert found is not None
    blocks = {row.block for row in found.rows}
    expected = {"rows", "columns", "head"} if isinstance(module, TwoScans) else {"layer1.0", "layer1.1", "fc"}
    assert blocks >= expected


def test_packaged_for_linux(plain: Bundle, tmp_path: Path) -> None:
    evm_deploy.package(plain.path, tmp_path / "package", PackageOptions(platform="linux"))
    report: Any = evm_deploy.verify(tmp_path / "package")
    assert report.passed


class FaintScan(TwoScans):
    """A branch with a layer scale of 1e-6, as networks begin with: the scores do not show what it gives."""

    def forward(self, image: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(image))).permute(0, 2, 3, 1).flatten(1, 2)
        scores: Tensor = self.head((x + 1e-6 * self.columns(self.rows(x))).mean(1))
        return scores


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"scan_form": "inlined"},
        pytest.param({"target": "coreml"}, marks=pytest.mark.slow),
        pytest.param({"target": "coreml", "precision": "fp16"}, marks=pytest.mark.slow),
    ],
)
def test_a_lost_carry_fails_the_gate_where_no_output_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: dict[str, Any]
) -> None:
    from evm_deploy.models import module as opening

    def forget(folded: nn.Module) -> nn.Module:
        with torch.no_grad():
            folded.columns.A_log.fill_(20.0)  # type: ignore[union-attr, operator]  # exp(delta A) is 0
        return folded

    torch.manual_seed(0)
    if "target" in form:
        pytest.importorskip("coremltools")
    options = ExportOptions(image_size=SIZE, **form)
    result = evm_deploy.export(trained(FaintScan()), tmp_path / "right", options)
    assert result.report is not None
    assert result.report.scans is not None
    assert (result.report.scans.count, result.report.scans.compared) == (2, 2)
    monkeypatch.setattr(opening, "fold_pairs", lambda module, pairs: forget(fold_pairs(module, pairs)))
    with pytest.raises(CheckFailed, match=r"the recurrence of the scan of columns on (onnx|mil).* is off by"):
        evm_deploy.export(trained(FaintScan()), tmp_path / "wrong", options)


def test_a_lost_carry_fails_the_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens that are scanned alone: what a scan is without its carry."""
    from evm_deploy.models import module as opening

    def forget(folded: nn.Module) -> nn.Module:
        with torch.no_grad():
            folded.rows.A_log.fill_(20.0)  # type: ignore[union-attr, operator]  # exp(delta A) is 0
        return folded

    torch.manual_seed(0)
    monkeypatch.setattr(opening, "fold_pairs", lambda module, pairs: forget(fold_pairs(module, pairs)))
    with pytest.raises(CheckFailed, match=r"from model\.rows"):
        evm_deploy.export(trained(TwoScans()), tmp_path / "bundle", ExportOptions(image_size=SIZE))
    assert list(tmp_path.iterdir()) == []
