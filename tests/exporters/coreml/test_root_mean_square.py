"""RMSNorm in a Core ML program: where its input is small, its epsilon counts."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import evm_deploy
from evm_deploy import ExportOptions

pytest.importorskip("coremltools")


class SmallNumbers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.RMSNorm(8, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.conv(x).permute(0, 2, 3, 1) * 1e-3)
        return y.mean((1, 2))


def test_the_epsilon_of_a_root_mean_square(tmp_path: Path) -> None:
    torch.manual_seed(0)
    result = evm_deploy.export(SmallNumbers(), tmp_path / "bundle", ExportOptions(target="coreml", image_size=(32, 32)))
    assert result.report is not None
    assert result.report.passed
