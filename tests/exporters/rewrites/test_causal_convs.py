"""Mamba's convolution with its SiLU, however it is written, is one operator; any other convolution stays."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evm_deploy.exporters.rewrites.causal_convs import CONVOLVE, join_causal_convs
from evm_deploy.exporters.trace import quiet

D, L, TAPS = 6, 9, 4


class Convolution(nn.Module):
    def __init__(self, run: Callable[..., Tensor], channels: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.run = run
        self.weight, self.bias = nn.Parameter(torch.randn(D, channels, TAPS)), nn.Parameter(torch.randn(D))

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, L) -> (B, D, L')."""
        return self.run(x.tanh(), self.weight, self.bias).tanh()


def pad_before(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.silu(F.conv1d(F.pad(x, (TAPS - 1, 0)), weight, bias, groups=D))


def cut_after(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.silu(F.conv1d(x, weight, bias, padding=TAPS - 1, groups=D)[..., : x.shape[-1]])


def backwards(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return pad_before(torch.cat([x, x], 1).flip(-1).chunk(2, 1)[0], weight, None)  # type: ignore[arg-type]


def pad_both(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.silu(F.conv1d(F.pad(x, (2, 1)), weight, bias, groups=D))


def cut_other(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.silu(F.conv1d(x, weight, bias, padding=TAPS - 1, groups=D)[..., 1 : x.shape[-1] + 1])


def repeat_edge(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.silu(F.conv1d(F.pad(x, (TAPS - 1, 0), mode="replicate"), weight, bias, groups=D))


def other_activation(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.gelu(F.conv1d(F.pad(x, (TAPS - 1, 0)), weight, bias, groups=D))


def dilate(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.silu(F.conv1d(F.pad(x, (TAPS - 1, 0)), weight, bias, dilation=2, groups=D))


def mix_channels(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.silu(F.conv1d(F.pad(x, (TAPS - 1, 0)), weight, bias, groups=D // 2))


def run(module: nn.Module) -> tuple[int, Tensor, Tensor]:
    """How many of our operators there are, what the program gives, and what it has to give."""
    x = torch.randn(2, D, L)
    with quiet(), torch.no_grad():
        program = torch.export.export(module.eval(), (x,), strict=False)
        join_causal_convs(program)
        program.graph_module.recompile()
        program.validate()
        found = sum(node.target is CONVOLVE for node in program.graph.nodes)
        return found, program.module()(x), module(x)


@pytest.mark.parametrize("form", [pad_before, cut_after, backwards])
def test_mambas_convolution_is_one_operator(form: Callable[..., Tensor]) -> None:
    found, result, expected = run(Convolution(form))
    assert found == 1
    torch.testing.assert_close(result, expected)


@pytest.mark.parametrize("form", [pad_both, cut_other, repeat_edge, other_activation, dilate, mix_channels])
def test_other_convolutions_stay(form: Callable[..., Tensor]) -> None:
    found, result, expected = run(Convolution(form, 2 if form is mix_channels else 1))
    assert found == 0
    torch.testing.assert_close(result, expected)
