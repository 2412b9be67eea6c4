"""Scans of tokens in several orders, written as repositories write them, become ordered scans that give the same."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import evm_deploy
from evm_deploy import ExportOptions, selective_scan_fn
from evm_deploy.errors import CheckFailed
from evm_deploy.exporters.rewrites import rewrite
from evm_deploy.exporters.trace import quiet
from evm_deploy.models.batch_norms import fold_pairs
from evm_deploy.tolerances import RECURRENCE
from evm_deploy.verification.graph_scans import GraphScans
from evm_deploy.verification.scans import compare_scans

D, N, R = 6, 2, 3
Step = Callable[..., Tensor]


# From a map (B, D, H, W) to sequences (B, K, D, L).
def stack_ways(x: Tensor) -> Tensor:
    ways = torch.stack([x.flatten(2), x.transpose(2, 3).contiguous().flatten(2)], 1)
    return torch.cat([ways, ways.flip(-1)], 1)


class AssignedWays(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        xs = x.new_empty((B, 4, C, H * W))
        xs[:, 0] = x.flatten(2, 3)
        xs[:, 1] = x.transpose(dim0=2, dim1=3).flatten(2, 3)
        xs[:, 2:4] = torch.flip(xs[:, 0:2], dims=[-1])
        return xs


def skip_tokens(x: Tensor) -> Tensor:
    B, C, H, W = x.shape
    xs = x.new_empty((B, 4, C, H * W // 4))
    for k in range(4):
        part = x if k % 2 == 0 else x.transpose(2, 3)
        a, b = k // 2, k % 2
        xs[:, k] = part[:, :, (b if k % 2 else a) :: 2, (a if k % 2 else b) :: 2].contiguous().view(B, C, -1)
    return xs


def cut_windows(x: Tensor) -> Tensor:
    B, C, H, W = x.shape
    windows = x.view(B, C, H // 2, 2, W // 2, 2).permute(0, 1, 2, 4, 3, 5).reshape(B, C, -1)
    return torch.stack([windows, windows.flip([-1])], 1)


def one_way(x: Tensor) -> Tensor:
    return x.flatten(2).flip([-1]).unsqueeze(1)


# From the results (B, K, D, L) back to a map (B, D, H, W).
def add_ways(y: Tensor, H: int, W: int) -> Tensor:
    B, _, C, L = y.shape
    y = y[:, 0:2] + y[:, 2:4].flip([-1]).view(B, 2, -1, L)
    columns = y[:, 1].view(B, C, W, H).transpose(2, 3).contiguous().view(B, C, L)
    return (y[:, 0] + columns).view(B, C, H, W)


def sum_ways(y: Tensor, H: int, W: int) -> Tensor:
    B, _, C, L = y.shape
    columns, reversed_columns = (
        each.view(B, C, W, H).transpose(2, 3).reshape(B, C, L) for each in (y[:, 1], y[:, 3].flip(-1))
    )
    rows, reversed_rows = y[:, 0], torch.flip(y[:, 2], dims=[-1])
    return torch.stack([rows, columns, reversed_rows, reversed_columns], 1).sum(1).view(B, C, H, W)


def put_back(y: Tensor, H: int, W: int) -> Tensor:
    B, _, C, _ = y.shape
    whole = y.new_empty((B, C, H, W))
    for k in range(4):
        a, b = k // 2, k % 2
        if k % 2:
            whole[:, :, a::2, b::2] = y[:, k].reshape(B, C, W // 2, H // 2).transpose(2, 3)[:, :, :, :]
        else:
            whole[:, :, a::2, b::2] = y[:, k].reshape(B, C, H // 2, W // 2)
    return whole


def join_windows(y: Tensor, H: int, W: int) -> Tensor:
    B, _, C, _ = y.shape
    added = y[:, 0] + y[:, 1].flip([-1])
    return added.view(B, C, H // 2, W // 2, 2, 2).permute(0, 1, 2, 4, 3, 5).reshape(B, C, H, W)


def turn_back(y: Tensor, H: int, W: int) -> Tensor:
    return y[:, 0].flip([-1]).view(y.shape[0], -1, H, W)


# The projections: of sequences (B, K, D, L) with weights (K, R + 2N, D) and (K, D, R).
def by_einsum(xs: Tensor, x_proj: Tensor, dt_proj: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    dt, B, C = torch.einsum("b k d l, k c d -> b k c l", xs, x_proj).split([R, N, N], dim=2)
    return torch.einsum("b k r l, k d r -> b k d l", dt, dt_proj), B, C


def by_convolution(xs: Tensor, x_proj: Tensor, dt_proj: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    B, K, _, L = xs.shape
    found = F.conv1d(xs.reshape(B, -1, L), x_proj.view(-1, D, 1), groups=K)
    dt, b, c = found.view(B, K, -1, L).split([R, N, N], dim=2)
    return F.conv1d(dt.reshape(B, -1, L), dt_proj.view(-1, R, 1), groups=K).view(B, K, D, L), b, c


def by_linear(xs: Tensor, x_proj: Tensor, dt_proj: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As mamba projects the tokens of all images at once."""
    B, K, _, L = xs.shape
    assert K == 1
    found = F.linear(xs[:, 0].transpose(1, 2).reshape(B * L, D), x_proj[0])
    delta = (dt_proj[0] @ found[:, :R].t()).view(D, B, L).transpose(0, 1).unsqueeze(1)
    b, c = (part.view(B, L, N).transpose(1, 2).contiguous().unsqueeze(1) for part in found[:, R:].split([N, N], -1))
    return delta, b, c


class Mixer(nn.Module):
    """A convolution, and a scan of what it gives in the orders of `spread`."""

    def __init__(self, K: int, spread: Step, project: Callable[..., Any], merge: Step) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.K, self.spread, self.project, self.merge = K, spread, project, merge
        self.conv = nn.Conv2d(3, D, 3, padding=1)
        self.x_proj, self.dt_proj = nn.Parameter(torch.randn(K, R + 2 * N, D)), nn.Parameter(torch.randn(K, D, R) / 2)
        self.A_log, self.D = nn.Parameter(torch.randn(K * D, N)), nn.Parameter(torch.randn(K * D))
        self.bias = nn.Parameter(torch.randn(K, D))

    def scan(self, xs: Tensor) -> Tensor:
        B, K, _, L = xs.shape
        delta, b, c = self.project(xs, self.x_proj, self.dt_proj)
        A = -self.A_log.float().exp()
        given = (xs.reshape(B, -1, L), delta.reshape(B, -1, L), A, b.contiguous(), c.contiguous(), self.D)
        y: Any = selective_scan_fn(*given, delta_bias=self.bias.view(-1), delta_softplus=True)
        return y.view(B, K, -1, L)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, D, H, W)."""
        x = F.silu(self.conv(image))
        return torch.tanh(self.merge(self.scan(self.spread(x)), *x.shape[2:]))


WRITTEN = {
    "stacked, einsum": (4, stack_ways, by_einsum, add_ways),
    "stacked, convolution": (4, stack_ways, by_convolution, sum_ways),
    "assigned, einsum": (4, AssignedWays.apply, by_einsum, sum_ways),
    "every second token": (4, skip_tokens, by_convolution, put_back),
    "windows": (2, cut_windows, by_einsum, join_windows),
    "backwards": (1, one_way, by_linear, turn_back),
}


def trace(module: nn.Module, image: Tensor, axes: Any = None) -> torch.export.ExportedProgram:
    with quiet(), torch.no_grad():
        shapes = None if axes is None else (axes,)
        return rewrite(torch.export.export(module.eval(), (image,), dynamic_shapes=shapes, strict=False))


def count(program: torch.export.ExportedProgram, name: str) -> int:
    target = getattr(torch.ops.evm, name).default
    return sum(node.target is target for node in program.graph.nodes)


def assert_same(program: torch.export.ExportedProgram, module: nn.Module, image: Tensor) -> None:
    program.validate()
    torch.testing.assert_close(program.module()(image), module(image), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("free", [False, True], ids=["fixed", "any batch"])
@pytest.mark.parametrize("name", WRITTEN)
def test_a_scan_in_orders_is_one_operator(name: str, free: bool) -> None:
    module = Mixer(*WRITTEN[name])
    axes = {0: torch.export.Dim("batch", min=1)} if free else None
    program = trace(module, torch.randn(2, 3, 8, 6), axes)
    assert (count(program, "ordered_scan"), count(program, "selective_scan")) == (1, 0)
    moved = {"flip", "stack", "cat", "einsum", "matmul", "conv1d", "slice_scatter", "select_scatter"}
    assert not moved & {str(node.target).split(".")[1] for node in program.graph.nodes if "aten" in str(node.target)}
    for batch in (2, 5) if free else (2,):
        assert_same(program, module, torch.randn(batch, 3, 8, 6))


def weigh_ways(y: Tensor, H: int, W: int) -> Tensor:
    """Directions that are weighed before they are added: the tokens are in order, the results are not added up."""
    return add_ways(y * torch.tensor([1.0, 2.0, 3.0, 4.0]).view(-1, 1, 1), H, W)


def turn_channels(y: Tensor, H: int, W: int) -> Tensor:
    y = add_ways(y, H, W)
    return torch.cat([y[:, 1:2], y[:, :1], y[:, 2:]], 1)


def leave_images_out(y: Tensor, H: int, W: int) -> Tensor:
    return add_ways(y, H, W)[:1]


@pytest.mark.parametrize("merge", [weigh_ways, turn_channels, leave_images_out])
def test_results_that_are_no_sums_of_whole_tokens_are_not_added_up(merge: Step) -> None:
    module = Mixer(4, stack_ways, by_einsum, merge)
    program, image = trace(module, torch.randn(2, 3, 8, 6)), torch.randn(2, 3, 8, 6)
    assert count(program, "ordered_scan") == 1
    assert_same(program, module, image)


def by_other_tokens(xs: Tensor, x_proj: Tensor, dt_proj: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    delta, b, c = by_einsum(xs, x_proj, dt_proj)
    return delta, b, c.flip(-1)


def by_features(xs: Tensor, x_proj: Tensor, dt_proj: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    delta, b, c = by_einsum(xs, x_proj, dt_proj)
    return delta, torch.tanh(b), c


def by_mixed_tokens(xs: Tensor, x_proj: Tensor, dt_proj: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What delta is made of comes from the token before."""
    delta, b, c = by_einsum(xs, x_proj, dt_proj)
    return delta.roll(1, -1), b, c


def by_channels_in_another_order(xs: Tensor, x_proj: Tensor, dt_proj: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return by_einsum(xs.flip(2), x_proj, dt_proj)


def by_changed_tokens(xs: Tensor, x_proj: Tensor, dt_proj: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return by_einsum(xs.tanh(), x_proj, dt_proj)


@pytest.mark.parametrize(
    "project", [by_other_tokens, by_features, by_mixed_tokens, by_channels_in_another_order, by_changed_tokens]
)
def test_what_is_no_ordered_scan_stays(project: Any) -> None:
    module = Mixer(4, stack_ways, project, add_ways)
    program = trace(module, torch.randn(2, 3, 8, 6))
    assert (count(program, "ordered_scan"), count(program, "selective_scan")) == (0, 1)
    assert_same(program, module, torch.randn(2, 3, 8, 6))


def test_a_free_size_stays() -> None:
    module = Mixer(*WRITTEN["stacked, einsum"])
    program = trace(module, torch.randn(2, 3, 8, 6), {2: torch.export.Dim("height", min=4, max=64)})
    assert count(program, "ordered_scan") == 0
    assert_same(program, module, torch.randn(2, 3, 16, 6))


class Faint(nn.Module):
    """A scan that the output does not show."""

    def __init__(self) -> None:
        super().__init__()
        self.mixer = Mixer(*WRITTEN["stacked, einsum"])

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 9)."""
        return image.flatten(2).mean(2).repeat(1, 3) + 1e-7 * self.mixer(image).mean()


def test_the_gate_sees_the_recurrence_of_an_ordered_scan(tmp_path: Path) -> None:
    module, image = Faint().eval(), torch.randn(1, 3, 8, 6)
    proto = evm_deploy.save_onnx(module, image, tmp_path / "model.onnx", input_names=["image"])
    (scan,) = (node for node in proto.graph.node if node.op_type == "OrderedScan")

    def compare() -> Any:
        graph = (tmp_path / "model.onnx").read_bytes()
        runners = [lambda: GraphScans(graph, library=False)]
        return compare_scans(runners, module, {"noise": image.numpy()}, RECURRENCE["fp32"])

    report = compare()
    assert (report.count, report.compared, report.passed) == (1, 1, True)
    A = next(tensor for tensor in proto.graph.initializer if tensor.name == scan.input[4])
    A.CopyFrom(onnx.numpy_helper.from_array(np.full(tuple(A.dims), -1e9, np.float32), A.name))  # nothing is carried
    onnx.save(proto, tmp_path / "model.onnx")
    report = compare()
    assert not report.passed
    assert report.relative > 0.01


@pytest.mark.parametrize("form", [{"scan_form": "inlined"}, {"target": "coreml"}], ids=["inlined", "coreml"])
def test_the_gate_sees_it_where_scans_are_written_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: dict[str, Any]
) -> None:
    from evm_deploy.models import module as opening

    def forget(module: nn.Module, pairs: Any) -> Any:
        folded: Any = fold_pairs(module, pairs)
        with torch.no_grad():
            folded.mixer.A_log.fill_(20.0)  # exp(delta A) is 0
        return folded

    if "target" in form:
        pytest.importorskip("coremltools")
    options = ExportOptions(image_size=(32, 32), **form)
    report = evm_deploy.export(Faint().eval(), tmp_path / "right", options).report
    assert report is not None
    assert report.scans is not None
    assert (report.scans.count, report.scans.compared, report.scans.passed) == (1, 1, True)
    monkeypatch.setattr(opening, "fold_pairs", forget)
    with pytest.raises(CheckFailed, match=r"the recurrence of the scan of mixer on (onnx|mil).* is off by"):
        evm_deploy.export(Faint().eval(), tmp_path / "wrong", options)
