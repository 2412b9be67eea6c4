"""A whole function: precision, memory, types, several functions, and networks as coremltools converts them."""

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evm_deploy import optional
from evm_deploy.errors import BundleError, MissingToolError
from evm_deploy.runtimes.mil.blobs import Blobs
from evm_deploy.runtimes.mil.describe import describe
from evm_deploy.runtimes.mil.evaluate import Evaluator
from evm_deploy.runtimes.mil.ops import OPERATIONS
from evm_deploy.runtimes.mil.plan import Step
from evm_deploy.runtimes.mil.program import read_model
from evm_deploy.tolerances import MIL_FP16, MIL_FP32

SaveProgram = Callable[..., Path]
Evaluate = Callable[..., dict[str, Tensor]]


def test_each_result_is_rounded(tmp_path: Path, save_program: SaveProgram, evaluate: Evaluate) -> None:
    """2048 + 1 is 2048 in float16; rounded at the end only, 2048 + 1 + 1 would be 2050."""

    def body(mb: Any, x: Any) -> Any:
        one = mb.add(x=x, y=np.float16(1))
        return mb.cast(x=mb.add(x=one, y=np.float16(1)), dtype="fp32", name="y")

    half = torch.tensor([2048.0]).half()
    assert evaluate(save_program(tmp_path / "a.mlpackage", body, {"x": half}), x=half)["y"] == 2048

    def wide(mb: Any, x: Any) -> Any:
        return mb.add(x=mb.add(x=x, y=np.float32(1)), y=np.float32(1), name="y")

    single = torch.tensor([2048.0])
    assert evaluate(save_program(tmp_path / "b.mlpackage", wide, {"x": single}), x=single)["y"] == 2050


def test_a_sum_is_rounded_once(tmp_path: Path, save_program: SaveProgram, evaluate: Evaluate) -> None:
    """4096 ones added in float16 would stop at 2048."""

    def body(mb: Any, x: Any) -> Any:
        return mb.reduce_sum(x=x, axes=[0], name="y")

    x = torch.ones(4096).half()
    assert evaluate(save_program(tmp_path / "a.mlpackage", body, {"x": x}), x=x)["y"] == 4096


def test_overflow_is_infinite(tmp_path: Path, save_program: SaveProgram, evaluate: Evaluate) -> None:
    x = torch.tensor([60000.0]).half()
    package = save_program(tmp_path / "a.mlpackage", lambda mb, x: mb.add(x=x, y=x, name="y"), {"x": x})
    assert evaluate(package, x=x)["y"].isinf()


def test_results_are_freed_after_their_last_use(
    tmp_path: Path, save_program: SaveProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a chain of forty tensors two or three are alive at a time."""

    def body(mb: Any, x: Any) -> Any:
        for _ in range(40):
            x = mb.relu(x=x)
        return x

    x, alive, most = torch.ones(8), weakref.WeakSet[Tensor](), [0]
    package = save_program(tmp_path / "a.mlpackage", body, {"x": x})
    run = Step.run

    def watched(step: Step, arguments: Any) -> tuple[Tensor, ...]:
        results = run(step, arguments)
        if not results[0].is_meta:
            alive.update(results)
            most[0] = max(most[0], len(alive))
        return results

    monkeypatch.setattr(Step, "run", watched)
    model = read_model(package)
    Evaluator(model.functions[0], Blobs(model.folder)).run({"x": x})
    assert 1 <= most[0] <= 3


def test_enumerated_shapes(tmp_path: Path, ct: Any, save_program: SaveProgram) -> None:
    """Sides that are known when the program runs: those that the package lists are taken, each checked anew."""

    def body(mb: Any, x: Any) -> Any:
        doubled = mb.concat(values=[x, x], axis=-1)
        return mb.reshape(x=doubled, shape=mb.concat(values=[mb.shape(x=x), [2]], axis=0), name="y")

    package = save_program(tmp_path / "a.mlpackage", body, {"x": torch.ones(1, 4)})
    file, message = package / "Data/com.apple.CoreML/model.mlmodel", ct.proto.Model_pb2.Model()
    message.ParseFromString(file.read_bytes())
    for sides in ((1, 4), (1, 6)):
        shapes = message.description.input[0].type.multiArrayType.enumeratedShapes.shapes
        shapes.add().shape.extend(sides)
    function = message.mlProgram.functions["main"]
    (block,) = function.block_specializations.values()
    values = [*function.inputs, *(o.outputs[0] for o in block.operations if o.type in ("concat", "reshape"))]
    for value in values:
        if value.type.tensorType.dataType == 11:  # float32: all but the shape
            value.type.tensorType.dimensions[1].unknown.SetInParent()
    file.write_bytes(message.SerializeToString())

    model = read_model(package)
    evaluator = Evaluator(model.functions[0], Blobs(model.folder))
    for side in (4, 6, 4):
        x = torch.randn(1, side)
        assert torch.equal(evaluator.run({"x": x})["y"], torch.cat([x, x], 1).reshape(1, side, 2))
    with pytest.raises(BundleError, match="does not take shape"):
        evaluator.run({"x": torch.ones(1, 5)})


def test_mixed_types_are_refused() -> None:
    with pytest.raises(BundleError, match="mix"):
        OPERATIONS["add"].call({"x": torch.ones(2), "y": torch.ones(2).half()})
    with pytest.raises(BundleError, match="mix"):
        OPERATIONS["concat"].call({"values": (torch.ones(2), torch.ones(2).half()), "axis": 0})


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("gelu", {"mode": "WRONG"}),
        ("pad", {"pad": (1, 1), "mode": "circular"}),
        ("pad", {"pad": (1, 1, 1, 1, 1, 1, 1, 1, 1, 1)}),
        ("pad", {"pad": (-1, 1)}),
        ("pad", {"pad": (5, 0), "mode": "reflect"}),
        ("pad", {"pad": (2**31, 2**31)}),
        ("cast", {"dtype": "fp8"}),
        ("split", {"axis": 3, "num_splits": 0}),
        ("split", {"axis": 3, "num_splits": 3}),
        ("split", {"axis": 9, "num_splits": 2}),
        ("squeeze", {"axes": (3,)}),
        ("transpose", {"perm": (0, 1)}),
        ("tile", {"reps": (1, 1, 1, 0)}),
        ("reshape", {"shape": (7, -1)}),
        ("slice_by_index", {"begin": (0,), "end": (1,)}),
        ("slice_by_size", {"begin": (0, 0, 0, 3), "size": (1, 1, 1, 9)}),
        ("gather", {"indices": torch.tensor([4]), "axis": 3}),
        ("gather", {"indices": torch.tensor([-5]), "axis": 3}),
        ("avg_pool", {"kernel_sizes": (2, 2), "pad_type": "odd"}),
        ("avg_pool", {"kernel_sizes": (2, 2), "pad_type": "custom", "pad": (1, 0, 0, 0), "ceil_mode": True}),
        ("conv", {"weight": torch.ones(2, 3, 1, 1), "pad_type": "custom"}),
        ("conv", {"weight": torch.ones(2, 3, 1, 1), "strides": (0, 0)}),
        ("conv", {"weight": torch.ones(2, 3, 1, 1), "pad_type": "custom", "pad": (2**31, 1, 2**31, 0)}),
        ("conv_transpose", {"weight": torch.ones(3, 2, 1, 1), "pad_type": "same"}),
        ("conv_transpose", {"weight": torch.ones(3, 2, 1, 1), "strides": (2**20, 2**20)}),
        ("conv_transpose", {"weight": torch.ones(3, 2, 1, 1), "output_shape": (1, 2, 5, 5)}),
        ("upsample_nearest_neighbor", {"scale_factor_width": torch.tensor(0)}),
        ("upsample_nearest_neighbor", {"scale_factor_width": torch.tensor(2**30)}),
        ("upsample_bilinear", {"scale_factor_height": torch.tensor(float("nan"))}),
        ("upsample_bilinear", {"scale_factor_height": torch.tensor(2**30)}),
        ("resize_bilinear", {"target_size_height": -1}),
        ("resize_bilinear", {"target_size_height": 8, "sampling_mode": "DEFAULT"}),
        ("reduce_argmax", {"output_dtype": "int4"}),
        ("quantize", {"scale": torch.tensor(1.0), "output_dtype": "int32"}),
        ("quantize", {"scale": torch.ones(3), "output_dtype": "int8"}),
    ],
)
def test_parameters_that_are_refused(kind: str, arguments: dict[str, Any]) -> None:
    x = {"input" if kind == "quantize" else "x": torch.ones(1, 3, 4, 4)}
    with pytest.raises(BundleError) as caught:
        OPERATIONS[kind].call(x | arguments)
    assert "\n" not in caught.value.cause


class Mixed(nn.Module):
    """Layers of every kind that the network has."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 4, stride=4), nn.BatchNorm2d(16), nn.GELU())
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.norm, self.mlp = nn.LayerNorm(16), nn.Linear(16, 32)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 32)."""
        x = self.stem(x)
        x = x + torch.sigmoid(self.depthwise(x)) * nn.functional.silu(x)
        x = self.norm(x.permute(0, 2, 3, 1)).flatten(1, 2)
        scores = (x @ x.transpose(1, 2) / 4).softmax(-1) @ x
        y: Tensor = nn.functional.softplus(self.mlp(torch.cat([scores, x[:, ::2]], 1))).cumsum(1).mean(1)
        return y


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", MIL_FP32), ("fp16", MIL_FP16)])
def test_a_converted_network(
    precision: str, tolerance: float, tmp_path: Path, convert: Callable[..., Any], evaluate: Evaluate
) -> None:
    torch.manual_seed(0)
    module, x = Mixed().eval(), torch.randn(1, 3, 32, 32)
    module.stem[1].running_mean.normal_()
    convert(module, x, precision=precision).save(str(tmp_path / "m.mlpackage"))
    (found,) = evaluate(tmp_path / "m.mlpackage", x=x).values()
    expected = module(x).detach()
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", MIL_FP32), ("fp16", MIL_FP16)])
def test_the_network_itself(
    golden: Any, precision: str, tolerance: float, tmp_path: Path, convert: Callable[..., Any], evaluate: Evaluate
) -> None:
    """The stages without a scan, converted with nothing but PyTorch's own decompositions."""
    stage = golden.model("micro").layers[3]
    module = nn.Sequential(*[part for part in stage if not isinstance(part, nn.Identity)]).eval()
    x = torch.randn(1, 7, 6, 128, generator=torch.Generator().manual_seed(0))
    convert(module, x, precision=precision).save(str(tmp_path / "m.mlpackage"))
    (found,) = evaluate(tmp_path / "m.mlpackage", input=x).values()
    expected = module(x).detach()
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()


def test_described(tmp_path: Path, ct: Any, convert: Callable[..., Any], quiet: Any) -> None:
    model = convert(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(36, 5), nn.Softmax(-1)).eval(),
        torch.zeros(1, 3, 5, 5),
        precision="fp16",
        inputs=[ct.ImageType("image", (1, 3, 5, 5))],
        classifier_config=ct.ClassifierConfig(["a", "b", "c", "d", "e"]),
    )
    model.author, model.license, model.version = "somebody", "Apache-2.0", "3"
    model.short_description, model.user_defined_metadata["key"] = "five classes", "value"
    with quiet():
        model.save(str(tmp_path / "m.mlpackage"))
    facts = describe(tmp_path / "m.mlpackage")
    assert facts["inputs"] == {"image": "RGB image (3, 5, 5)"}
    assert facts["outputs"] == {"classLabel": "string", "classLabel_probs": "dictionary"}
    assert facts["functions"] == {"main": "RGB image (3, 5, 5)"}
    assert (facts["specification_version"], facts["class_labels"], facts["largest_rank"]) == (7, 5, 4)
    assert facts["operators"]["conv"] == facts["operators"]["classify"] == 1
    assert facts["operations"] == sum(facts["operators"].values())
    assert facts["float_operations"]["fp16"] > facts["float_operations"]["fp32"] == 1
    assert facts["weight_bytes"] == (tmp_path / "m.mlpackage/Data/com.apple.CoreML/weights/weight.bin").stat().st_size
    metadata = facts["metadata"]
    assert [metadata[key] for key in ("author", "license", "version", "description", "key")] == [
        "somebody",
        "Apache-2.0",
        "3",
        "five classes",
        "value",
    ]


def test_without_coremltools(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}")

    optional.coremltools.cache_clear()
    monkeypatch.setattr(optional.importlib, "import_module", fail)
    with pytest.raises(MissingToolError) as caught:
        optional.coremltools()
    assert "pip install coremltools" in caught.value.fix
    optional.coremltools.cache_clear()
