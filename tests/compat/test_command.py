"""`evm-deploy export --module FILE:FUNCTION --checkpoint FILE`: a repository's code without CUDA, and its weights."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import evm_deploy
from evm_deploy.cli import main

# As repositories have it: the extension is imported at the top, and again by what runs.
CODE = """
import torch
from torch import nn
import selective_scan_cuda_oflex
from mamba_ssm.ops.triton.layer_norm import RMSNorm

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, stride=4)
        self.norm = RMSNorm(8)
        self.A_log = nn.Parameter(torch.zeros(8, 2))

    def forward(self, x):
        import selective_scan_cuda_core
        x = self.norm(self.stem(x).flatten(2).mT).mT
        with torch.cuda.device(x.device):
            B = x[:, None, :2]
            y, *_ = selective_scan_cuda_core.fwd(x, x, -self.A_log.exp(), B, B, None, None, True, 1)
        return y.mean(2)

def build():
    return Net()
"""
NAMES = ("A_log", "norm.weight", "stem.bias", "stem.weight")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "repository.py").write_text(CODE)
    return tmp_path / "repository.py"


def weights(seed: int = 0) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    shapes = dict(zip(NAMES, ((8, 2), (8,), (8,), (8, 3, 4, 4)), strict=True))
    return {name: torch.randn(*shape, generator=g) for name, shape in shapes.items()}


def export(file: Path, checkpoint: object, *options: str) -> int:
    torch.save(checkpoint, file.parent / "weights.pth")
    named = ["--module", f"{file}:build", "--checkpoint", str(file.parent / "weights.pth"), "--image-size", "32"]
    return main(["export", *named, *options, "--out", str(file.parent / "out")])


def test_the_weights_of_a_checkpoint_are_exported(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = {"epoch": 3, "model": {f"module.{name}": t for name, t in weights().items()}, "model_ema": weights(1)}
    assert export(file, held) == 2
    assert "Choose: --key model or --key model_ema" in capsys.readouterr().err
    assert export(file, held, "--key", "model_ema") == 0
    bundle = file.parent / "out"
    with evm_deploy.compat.without_cuda():
        namespace: dict[str, type[nn.Module]] = {}
        exec(CODE, namespace)
        net = namespace["Net"]()
        net.load_state_dict(weights(1))
        expected = net(torch.from_numpy(evm_deploy.Bundle.open(bundle).sample().input)).detach()
    torch.testing.assert_close(torch.from_numpy(evm_deploy.Bundle.open(bundle).sample().outputs[0]), expected)
    named = ["verify", str(bundle), "--module", f"{file}:build", "--checkpoint", str(file.parent / "weights.pth")]
    assert main([*named, "--key", "model_ema"]) == 0
    assert main([*named, "--key", "model"]) == 2


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ({name: t for name, t in weights().items() if name != "A_log"}, "1 missing (A_log)"),
        ({**weights(), "head.weight": torch.ones(2)}, "1 unexpected (head.weight)"),
        ({**weights(), "A_log": torch.ones(8, 4)}, "A_log is (8, 4), expected (8, 2)"),
        ({**weights(), "A_log": torch.full((8, 2), torch.nan)}, "A_log has values that are not finite"),
        ({"epoch": 1}, "it holds no tensors"),
    ],
)
def test_weights_of_another_network_are_refused(
    file: Path, held: object, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(file, held) == 2
    assert said in capsys.readouterr().err
    assert not (file.parent / "out").exists()


def test_what_has_to_go_together(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "a.pth", "--checkpoint", "b.pth", "--out", str(file.parent / "out")]) == 2
    assert "--checkpoint is for the weights of --module" in capsys.readouterr().err
    assert export(file, weights(), "--key", "model") == 2
    assert "no weights under 'model'" in capsys.readouterr().err
