"""`save_onnx`: a module with scans to an ONNX file in one call; and what else PyTorch makes of our operators."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import evm_deploy
from evm_deploy import save_onnx, selective_scan_fn
from evm_deploy.errors import InputError, OptionError, OutputError
from evm_deploy.tolerances import MIL_FP32

DIM, N = 6, 3


class Sequences(nn.Module):
    """No network of images: tokens (batch, L, DIM) and a mask of them, to two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(DIM, DIM + 2 * N)

    def forward(self, x: Tensor, mask: Tensor, order: bool = False) -> dict[str, Tensor]:
        delta, B, C = (t.transpose(1, 2) for t in self.project(x).split([DIM, N, N], -1))
        y = selective_scan_fn(x.mT, delta, -torch.ones(DIM, N), B, C, delta_softplus=True)
        assert isinstance(y, Tensor)
        scores = y.mT.sum(2) * mask
        return {"scores": scores, "ranks": torch.sort(scores, descending=order, stable=True)[1]}


@pytest.fixture(scope="module")
def module() -> nn.Module:
    torch.manual_seed(0)
    return Sequences().eval()


def tokens(batch: int, L: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(L)
    return torch.randn(batch, L, DIM, generator=g), (torch.rand(batch, L, generator=g) > 0.2).float()


@pytest.mark.parametrize("library", [True, False])
def test_saved_and_run(module: nn.Module, tmp_path: Path, library: bool) -> None:
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length")
    axes = {0: batch, 1: length}
    proto = save_onnx(
        module,
        tokens(2, 7),
        tmp_path / "model.onnx",
        input_names=["tokens", "mask"],
        output_names=["scores", "ranks"],
        dynamic_shapes={"x": axes, "mask": axes},
    )
    assert onnx.load(tmp_path / "model.onnx") == proto
    assert [node.op_type for node in proto.graph.node].count("SelectiveScan") == 1
    assert [function.name for function in proto.functions] == ["SelectiveScan"]
    assert all(parameter.requires_grad for parameter in module.parameters())
    options = onnxruntime.SessionOptions()
    if library:
        options.register_custom_ops_library(str(evm_deploy.native_library()))
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", options)
    for size in ((2, 7), (1, 40)):
        x, mask = tokens(*size)
        expected = module(x, mask)
        scores, ranks = session.run(["scores", "ranks"], {"tokens": x.numpy(), "mask": mask.numpy()})
        np.testing.assert_allclose(scores, expected["scores"].detach().numpy(), atol=MIL_FP32)
        np.testing.assert_array_equal(ranks, expected["ranks"].numpy())  # masked ones are equal, the first comes first


def test_a_program_of_torch_export_and_keyword_arguments(module: nn.Module) -> None:
    program = torch.export.export(module, tokens(1, 5), {"order": True}, strict=False)
    one = save_onnx(program, tokens(1, 5))
    two = save_onnx(module, tokens(1, 5), kwargs={"order": True}, opset=18)
    assert {node.op_type for node in one.graph.node} == {node.op_type for node in two.graph.node}
    assert [entry.version for entry in two.opset_import if entry.domain == ""] == [18]


class Loop(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        h = x[:, 0]
        for token in x.unbind(1):
            h = 0.5 * h + token
        return h


class Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_what_cannot_be_saved_is_said_and_nothing_written(module: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(InputError, match="a scan is a Python loop over its tokens"):
        save_onnx(Loop().eval(), torch.ones(1, 30, DIM), path)
    with pytest.raises(InputError, match=r"Branch cannot be traced .*depends on the values"):
        save_onnx(Branch().eval(), torch.ones(3), path)
    with pytest.raises(InputError, match="training mode"):
        save_onnx(Sequences(), tokens(1, 5), path)
    with pytest.raises(OptionError, match="no opset 17"):
        save_onnx(module, tokens(1, 5), path, opset=17)
    with pytest.raises(OutputError, match="cannot be written"):
        save_onnx(module, tokens(1, 5), "/proc/none/model.onnx")
    assert list(tmp_path.iterdir()) == []


class Windows(nn.Module):
    """Code that computes with sizes as numbers."""

    def forward(self, x: Tensor, others: dict[str, Tensor]) -> Tensor:
        images = int(x.shape[0] * x.shape[1] / 4)
        return x.reshape(images, 4, -1).mean(1) + others["bias"].sum(0)


class Pairs(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.view(-1, 2, 3)


DIM_OR_NAME = {"Dim": torch.export.Dim("n"), "AUTO": torch.export.Dim.AUTO, "name": "n"}


@pytest.mark.parametrize("dim", DIM_OR_NAME.values(), ids=DIM_OR_NAME)
def test_an_axis_that_the_code_fixes_is_named(tmp_path: Path, dim: object) -> None:
    given, path = (torch.ones(3, 4, 5), {"bias": torch.ones(2, 5)}), tmp_path / "model.onnx"
    with pytest.raises(InputError, match=r"^Windows fixes axis 0 of x at 3, which dynamic_shapes asks"):
        save_onnx(Windows().eval(), given, path, dynamic_shapes=({0: dim}, {"bias": None}))
    proto = save_onnx(Windows().eval(), given, path, dynamic_shapes={"x": None, "others": {"bias": {0: dim}}})
    (rows, _) = proto.graph.input[1].type.tensor_type.shape.dim
    assert rows.dim_param
    assert rows.dim_param == "n" or dim is torch.export.Dim.AUTO


def test_an_axis_of_some_lengths_and_an_example_of_one() -> None:
    free = {0: torch.export.Dim("n")}
    with pytest.raises(InputError, match=r"^Pairs takes only some lengths of an axis .* n = "):
        save_onnx(Pairs().eval(), torch.ones(4, 3), dynamic_shapes=(free,))
    given = (torch.ones(3, 4, 5), {"bias": torch.ones(1, 5)})
    with pytest.raises(InputError, match=r"fixes axis 0 of others\.bias at 1.*longer than 1"):
        save_onnx(Windows().eval(), given, dynamic_shapes=(None, {"bias": free}))


class Image(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        u = F.relu(x)
        y = selective_scan_fn(u, u, -torch.ones(x.shape[1], N), u[:, :N], u[:, :N])
        assert isinstance(y, Tensor)
        return y


@pytest.mark.filterwarnings("ignore")
def test_the_older_exporter_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="older exporter"):
        torch.onnx.export(Image().eval(), (torch.ones(1, 4, 8),), tmp_path / "model.onnx", dynamo=False)
    traced = torch.jit.trace(Image().eval(), torch.ones(1, 4, 8))  # type: ignore[no-untyped-call]
    torch.testing.assert_close(traced(torch.ones(1, 4, 8)), Image()(torch.ones(1, 4, 8)))


@pytest.mark.filterwarnings("ignore")
def test_compiled() -> None:
    x = torch.randn(1, 4, 8)
    compiled = torch.compile(Image().eval(), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), Image()(x))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_compiled_ahead_of_time(tmp_path: Path) -> None:
    x = torch.randn(1, 4, 8)
    program = torch.export.export(Image().eval(), (x,))
    package = torch._inductor.aoti_compile_and_package(program, package_path=str(tmp_path / "model.pt2"))
    torch.testing.assert_close(torch._inductor.aoti_load_package(package)(x), Image()(x))
