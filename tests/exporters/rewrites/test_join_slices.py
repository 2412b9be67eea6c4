"""Assignments to slices of a tensor become concatenations and stacks that give the same, at any size."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

import evm_deploy
from evm_deploy.exporters.rewrites import rewrite
from evm_deploy.exporters.trace import quiet
from evm_deploy.runtimes.onnxruntime import OnnxRunner


class Module(nn.Module):
    def __init__(self, run: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.run = run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)


def trace(run: Callable[[Tensor], Tensor], x: Tensor, axes: Any = None) -> torch.export.ExportedProgram:
    with quiet(), torch.no_grad():
        shapes = None if axes is None else (axes,)
        return rewrite(torch.export.export(Module(run), (x,), dynamic_shapes=shapes, strict=False))


def list_operations(program: torch.export.ExportedProgram) -> list[str]:
    targets = [node.target for node in program.graph.nodes if isinstance(node.target, torch._ops.OpOverload)]
    return [target.overloadpacket.__name__ for target in targets]


def cross(x: Tensor) -> Tensor:
    y = x.new_empty((x.shape[0], 4, x.shape[1], x.shape[2] * x.shape[3]))
    y[:, 0] = x.flatten(2)
    y[:, 1] = x.transpose(2, 3).flatten(2)
    y[:, 2:4] = y[:, 0:2].flip(-1)
    return y


def interleave(x: Tensor) -> Tensor:
    y = x.new_empty((x.shape[0], x.shape[1], 2 * x.shape[2], 2 * x.shape[3]))
    y[:, :, ::2, ::2] = x
    y[:, :, 1::2, ::2] = 2 * x
    y[:, :, ::2, 1::2] = 3 * x
    y[:, :, 1::2, 1::2] = y[:, :, ::2, 1::2] + x
    return y


def overlap(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, 0:2] = 1 + x[:, 1:3]
    y[:, 1] = y[:, 0] * 2
    y[:, -1:] += 1
    return y


def replace_phase(x: Tensor) -> Tensor:
    y = x.clone()
    y[..., 1::2] = x[..., ::2] * 2
    return y


def overwrite(x: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    y[:, :, 0:2] = x[:, :, 2:4]
    y[:, :, 0:1] = x[:, :, 1:2]
    return y


def write_pieces_of_one_axis_across(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, 0] = x[:, 1]
    y[:, :, 0] = x[:, :, 1]
    y[:, 1] = x[:, 2]
    return y


JOINED = (cross, interleave, overlap, replace_phase, overwrite, write_pieces_of_one_axis_across)
HEIGHT, WIDTH = Dim("height", min=2, max=64), Dim("width", min=2, max=64)


@pytest.mark.parametrize("run", JOINED)
def test_assignments_are_joined(run: Callable[[Tensor], Tensor]) -> None:
    x = torch.randn(2, 3, 4, 6)
    program = trace(run, x)
    program.validate()
    assert not {"slice_scatter", "select_scatter", "copy", "copy_"} & set(list_operations(program))
    assert torch.equal(program.module()(x), run(x))


@pytest.mark.parametrize("run", [cross, interleave])
def test_assignments_are_joined_at_any_size(run: Callable[[Tensor], Tensor]) -> None:
    program = trace(run, torch.randn(2, 3, 4, 6), {2: HEIGHT, 3: WIDTH})
    assert not {"slice_scatter", "select_scatter"} & set(list_operations(program))
    for size in ((4, 6), (5, 3), (9, 2)):
        x = torch.randn(2, 3, *size)
        assert torch.equal(program.module()(x), run(x))


def uneven(x: Tensor) -> Tensor:
    y = x.clone()
    y[..., ::2] = x[..., ::2] + 1
    return y


def beside(x: Tensor) -> Tensor:
    y = x.clone()
    y[..., 1:5:2] = 1 + x[..., 0:2]
    return y


@pytest.mark.parametrize("run", [uneven, beside])
def test_parts_that_do_not_fit_stay(run: Callable[[Tensor], Tensor]) -> None:
    x = torch.randn(2, 3, 4, 7)
    program = trace(run, x)
    assert "slice_scatter" in list_operations(program)
    assert torch.equal(program.module()(x), run(x))


def test_a_graph_of_any_size_is_right() -> None:
    axes = ({2: HEIGHT, 3: WIDTH},)
    x = torch.randn(1, 3, 4, 6)
    for run in (cross, interleave):
        proto = evm_deploy.save_onnx(Module(run).eval(), x, input_names=["x"], dynamic_shapes=axes)
        assert not {"ScatterND", "ScatterElements"} & {node.op_type for node in proto.graph.node}
        with OnnxRunner(proto.SerializeToString(), library=False) as runner:
            for size in ((4, 6), (7, 5)):
                image = torch.randn(1, 3, *size)
                (found,) = runner.run(image.numpy())
                np.testing.assert_array_equal(found, run(image).numpy())
