"""Functions that repositories carry in their own files: replaced as these are imported, where ours does the same."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from evm_deploy.compat import without_cuda

# Written as repositories have them, with the order of arguments and the defaults of each.
LOOP = """
import torch
import torch.nn.functional as F

def selective_scan_torch(u, delta, A, B, C, D=None, delta_bias=None, delta_softplus=True, oflex=True, *args, **kwargs):
    delta = delta if delta_bias is None else delta + delta_bias[..., None]
    delta = F.softplus(delta) if delta_softplus else delta
    B, C = (t.repeat_interleave(u.shape[1] // t.shape[1], 1) for t in (B, C))
    h, y = torch.zeros(*u.shape[:2], A.shape[1]), []
    for i in range(u.shape[2]):
        h = torch.exp(delta[:, :, i, None] * A) * h + (delta * u)[:, :, i, None] * B[..., i]
        y.append((h * C[..., i]).sum(-1){TRAP})
    return torch.stack(y, 2) + (0 if D is None else u * D[:, None])
"""
WAYS = """
import torch

def cross_scan_fwd(x, in_channel_first=True, out_channel_first=True, scans=0):
    x = x if in_channel_first else x.permute(0, 3, 1, 2)
    B, C, H, W = x.shape
    y = x.new_empty((B, 4, C, H * W))
    y[:, 0] = x.flatten(2)
    y[:, 1] = x.transpose(2, 3).flatten(2) if scans == 0 else y[:, 0]
    y[:, 2:] = y[:, :2] if scans == 1 else y[:, :2].flip(-1)
    return y if out_channel_first else y.permute(0, 3, 1, 2)

class CrossScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return cross_scan_fwd(x)
"""
KERNELS = """
import triton

@triton.jit
def kernel(x):
    pass

def mamba_chunk_scan_combined(x, dt, A, B, C, chunk_size, D=None, dt_bias=None, dt_softplus=False):
    kernel[(1,)](x)

def rms_norm_fn(x, weight, bias, residual=None, eps=1e-6, prenorm=False):
    kernel[(1,)](x)

def layer_norm_fn(x, weight, bias, something_of_their_own=1):
    kernel[(1,)](x)
"""


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(tmp_path)

    def load(name: str, text: str) -> Any:
        (tmp_path / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        return importlib.import_module(name)

    yield load
    for name in ("repo_loop", "repo_other_loop", "repo_ways", "repo_kernels", "repo_outside"):
        sys.modules.pop(name, None)


def operators(function: Any, *args: Any) -> list[str]:
    """What a trace of it has."""
    module = torch.nn.Module()
    module.forward = function
    program = torch.export.export(module, args, strict=False)
    return [str(node.target) for node in program.graph.nodes if node.op == "call_function"]


def arguments() -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(3)
    shapes = ((2, 6, 9), (2, 6, 9), (6, 2), (2, 3, 2, 9), (2, 3, 2, 9), (6,), (6,))
    u, delta, A, B, C, D, bias = (torch.randn(shape, generator=g) for shape in shapes)
    return u, delta, -A.abs(), B, C, D, bias


def test_a_loop_over_tokens_becomes_the_operator(load: Any) -> None:
    given = arguments()
    plain = load("repo_outside", LOOP.replace("{TRAP}", "")).selective_scan_torch
    with without_cuda():
        replaced = load("repo_loop", LOOP.replace("{TRAP}", "")).selective_scan_torch
    for more in ((), (False,), (True, True, "anything", 3)):
        found, expected = (scan(*given[:6], given[6].abs() * 20, *more) for scan in (replaced, plain))
        torch.testing.assert_close(found, expected)
    assert operators(replaced, *given).count("evm.selective_scan.default") == 1


def test_what_gives_something_else_stays_as_it_is(load: Any) -> None:
    with without_cuda():
        other = load("repo_other_loop", LOOP.replace("{TRAP}", " * (1 + i % 2)")).selective_scan_torch
    assert other.__module__ == "repo_other_loop"


def test_the_cross_scan_without_assignment(load: Any) -> None:
    plain = load("repo_outside", WAYS)
    with without_cuda():
        module = load("repo_ways", WAYS)
    x = torch.randn(2, 3, 4, 5)
    for first in (True, False):
        given = (x, first, not first, 0)
        torch.testing.assert_close(module.cross_scan_fwd(*given), plain.cross_scan_fwd(*given))
        assert not {"aten.copy_.default", "aten.new_empty.default"} & set(operators(module.cross_scan_fwd, *given))
    torch.testing.assert_close(module.CrossScan.apply(x), plain.CrossScan.apply(x))
    assert "aten.stack.default" in operators(module.CrossScan.apply, x)


def test_functions_of_triton_kernels(load: Any) -> None:
    with without_cuda():
        module = load("repo_kernels", KERNELS)
    x, weight = torch.randn(2, 5, 4, 3), torch.ones(3)
    expected = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(module.rms_norm_fn(x, weight, None), expected)
    torch.testing.assert_close(module.rms_norm_fn(x, weight, None, x, prenorm=True)[1], x + x)
    B = torch.randn(2, 5, 2, 6)
    y = module.mamba_chunk_scan_combined(x, torch.ones(2, 5, 4), -torch.ones(4), B, B, 2, dt_softplus=True)
    assert y.shape == x.shape
    with pytest.raises(Exception, match="the Triton kernel kernel is not supplied"):
        module.layer_norm_fn(x, weight, None)
