"""The tolerance of deep networks in float16: by what rounding costs them in PyTorch."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import evm_deploy
from evm_deploy import Bundle, ExportOptions
from evm_deploy.errors import BundleError, CheckFailed
from evm_deploy.exporters.record import make_manifest
from evm_deploy.models import module as opening
from evm_deploy.models.module import open_module
from evm_deploy.tolerances import FP16_MOST, PARITY, choose_fp16_tolerance, find_tolerance
from evm_deploy.verification import rounding

HALF = ExportOptions(image_size=(32, 32), precision="fp16")


class Deep(nn.Module):
    """Products one after the other, and a class for each of ten sums."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 64, 8, 8)
        self.layers = nn.ModuleList(nn.Linear(64, 64) for _ in range(layers))
        self.head = nn.Linear(64, 10)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 10)."""
        x = self.stem(image).flatten(2).mean(2)
        for layer in self.layers:
            x = x + torch.sin(4 * layer(x))
        scores: Tensor = self.head(x)
        return scores


def measure(module: nn.Module) -> tuple[float, float]:
    """By `measure_float16`, and by the module in float16."""
    network = open_module(module.eval(), (32, 32))
    manifest, image = make_manifest(network, HALF), np.random.default_rng(0).random((1, 3, 32, 32), np.float32)
    found = rounding.measure_float16(network, manifest, {"noise": image})
    with torch.inference_mode():
        exact = module(torch.from_numpy(image))
        rounded = module.half()(torch.from_numpy(image).half()).float()
    return found, float((rounded - exact).abs().max() / max(exact.abs().max(), 1))


def test_it_is_what_the_network_loses_in_float16() -> None:
    for layers in (1, 24):
        found, expected = measure(Deep(layers))
        assert 0.4 * expected <= found <= 2.5 * expected
    assert found > 3 * measure(Deep(1))[0]


def test_what_leaves_float16_costs_nothing() -> None:
    module = Deep(1)
    with torch.no_grad():
        module.layers[0].bias.fill_(1e6)  # type: ignore[union-attr, operator]
    assert measure(module)[0] == 0


def test_the_tolerance_has_a_floor_and_a_ceiling() -> None:
    assert choose_fp16_tolerance(9e-4) == PARITY["fp16"]
    assert choose_fp16_tolerance(4e-3) == pytest.approx(8e-3)
    assert choose_fp16_tolerance(1.0) == FP16_MOST


@pytest.mark.parametrize("cost", [9e-4, 4e-3])
def test_the_bundle_says_its_tolerance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cost: float) -> None:
    monkeypatch.setattr(rounding, "measure_float16", lambda *_: cost)
    result = evm_deploy.export(Deep(1).eval(), tmp_path / "out", HALF)
    wanted = max(2 * cost, PARITY["fp16"])
    assert result.report is not None
    assert result.report.tolerance == find_tolerance(Bundle.open(tmp_path / "out").manifest) == wanted
    raised = wanted > PARITY["fp16"]
    assert any("an error of 8.0e-03 is allowed" in note for note in result.report.notes) == raised
    assert bool(result.bundle.manifest.build) == raised


def test_what_is_wrong_fails_at_any_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fold = opening.fold_pairs

    def shift(module: nn.Module, pairs: Any) -> Any:
        folded: Any = fold(module, pairs)
        with torch.no_grad():
            folded.head.bias[0] += 0.05
        return folded

    monkeypatch.setattr(rounding, "measure_float16", lambda *_: 1.0)
    monkeypatch.setattr(opening, "fold_pairs", shift)
    with pytest.raises(CheckFailed, match=r"of 1\.0e-02"):
        evm_deploy.export(Deep(1).eval(), tmp_path / "out", HALF)


@pytest.mark.parametrize("said", [1e-3, 0.5, "0.005", True, None])
def test_a_manifest_with_another_tolerance_is_refused(said: Any) -> None:
    manifest = make_manifest(open_module(Deep(1).eval(), (32, 32)), HALF)
    with pytest.raises(BundleError, match="tolerance"):
        find_tolerance(dataclasses.replace(manifest, build={"tolerance": said}))
