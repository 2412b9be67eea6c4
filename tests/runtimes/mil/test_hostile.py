"""Packages that are damaged, or made to harm: each gives one clear line, and allocates nothing on a file's word."""

import contextlib
import shutil
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from evm_deploy.errors import BundleError
from evm_deploy.optional import coremltools
from evm_deploy.runtimes.mil import plan
from evm_deploy.runtimes.mil.blobs import Blobs
from evm_deploy.runtimes.mil.describe import describe
from evm_deploy.runtimes.mil.evaluate import Evaluator
from evm_deploy.runtimes.mil.package_files import MODEL_BYTES
from evm_deploy.runtimes.mil.program import read_model

MODEL, WEIGHTS = "Data/com.apple.CoreML/model.mlmodel", "Data/com.apple.CoreML/weights/weight.bin"
X = torch.ones(1, 4)
RECORD = struct.Struct("<IIQQQ")


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory, save_program: Callable[..., Path]) -> Path:
    """y = relu(w x) tiled twice, with 16 weights in the weight file."""

    def body(mb: Any, x: Any) -> Any:
        product = mb.linear(x=x, weight=np.arange(16, dtype=np.float32).reshape(4, 4), name="product")
        return mb.tile(x=mb.relu(x=product, name="positive"), reps=[2, 1], name="y")

    return save_program(tmp_path_factory.mktemp("intact") / "model.mlpackage", body, {"x": X})


@pytest.fixture
def package(intact: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(intact, tmp_path / "model.mlpackage"))


def run(package: Path) -> dict[str, Tensor]:
    model = read_model(package)
    return Evaluator(model.functions[0], Blobs(model.folder)).run({"x": X})


def refused(package: Path, match: str) -> None:
    with pytest.raises(BundleError, match=match) as caught:
        run(package)
    assert "\n" not in caught.value.cause
    assert caught.value.fix


def edit(package: Path, change: Callable[[Any], None]) -> Path:
    """Changes the protobuf of the model."""
    message = coremltools().proto.Model_pb2.Model()
    message.ParseFromString((package / MODEL).read_bytes())
    change(message)
    (package / MODEL).write_bytes(message.SerializeToString())
    return package


def block(message: Any) -> Any:
    (only,) = message.mlProgram.functions["main"].block_specializations.values()
    return only


def operation(message: Any, kind: str) -> Any:
    return next(entry for entry in block(message).operations if entry.type == kind)


def constant(message: Any, name: str) -> Any:
    return next(entry for entry in block(message).operations if entry.outputs[0].name == name)


def weight(message: Any) -> Any:
    return next(
        entry.attributes["val"]
        for entry in block(message).operations
        if entry.attributes["val"].HasField("blobFileValue")
    )


def test_intact(package: Path) -> None:
    assert torch.equal(run(package)["y"], torch.tensor([[6.0, 22, 38, 54]] * 2))


# The folder and its manifest


def test_no_package(tmp_path: Path) -> None:
    refused(tmp_path, "not an .mlpackage")
    (tmp_path / "file").write_text("x")
    refused(tmp_path / "file", "not an .mlpackage")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "JSON"),
        ("[" * 100_000, "JSON"),
        ("[]", "JSON"),
        ("{}", "names no model"),
        ('{"rootModelIdentifier": ["a"], "itemInfoEntries": {"a": {"path": "x"}}}', "names no model"),
        ('{"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": 3}}}', "names no model"),
        ('{"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": "x"}}}', "missing"),
        ('{"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": "../../secret"}}}', "leaves the package"),
        ('{"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": "/etc/passwd"}}}', "leaves the package"),
        ("\x00" * ((1 << 20) + 1), "more than"),
    ],
)
def test_manifest(package: Path, text: str, match: str) -> None:
    (package.parent / "secret").write_bytes((package / MODEL).read_bytes())
    (package / "Manifest.json").write_text(text)
    refused(package, match)


@pytest.mark.parametrize("name", [MODEL, WEIGHTS, "Data", "Manifest.json"])
def test_links(package: Path, tmp_path: Path, name: str) -> None:
    (package / name).rename(tmp_path / "elsewhere")
    (package / name).symlink_to(tmp_path / "elsewhere")
    refused(package, "link")


def test_large_model_file(package: Path) -> None:
    with (package / MODEL).open("r+b") as file:
        file.truncate(MODEL_BYTES + 1)
    refused(package, "more than")


# The protobuf


@pytest.mark.parametrize("data", [b"", b"\xff" * 64, b"\x0a" * 100])
def test_not_a_model(package: Path, data: bytes) -> None:
    (package / MODEL).write_bytes(data)
    refused(package, "not a Core ML model|no ML Program")


def test_truncated_model(package: Path) -> None:
    data = (package / MODEL).read_bytes()
    (package / MODEL).write_bytes(data[: len(data) // 2])
    refused(package, "not a Core ML model")


def test_neural_network(package: Path) -> None:
    refused(edit(package, lambda message: message.neuralNetwork.SetInParent()), "no ML Program but neuralNetwork")


def test_no_function(package: Path) -> None:
    refused(edit(package, lambda message: message.mlProgram.functions.clear()), "functions")


def test_a_function_that_is_not_described(package: Path) -> None:
    refused(edit(package, lambda message: message.mlProgram.functions["other"].SetInParent()), "functions")


def test_no_block_for_the_opset(package: Path) -> None:
    def change(message: Any) -> None:
        message.mlProgram.functions["main"].opset = "CoreML99"

    refused(edit(package, change), "no block for its opset 'CoreML99'")


def test_an_input_that_is_not_described(package: Path) -> None:
    refused(edit(package, lambda message: message.description.input.pop()), "other inputs or outputs")


def test_unknown_operation(package: Path) -> None:
    def change(message: Any) -> None:
        operation(message, "relu").type = "warp"

    refused(edit(package, change), "'warp' that makes 'positive' is not supported")


def test_long_and_odd_names(package: Path) -> None:
    def change(message: Any) -> None:
        operation(message, "relu").type = "warp\n\x1b[2J" * 100

    with pytest.raises(BundleError) as caught:
        run(edit(package, change))
    assert len(caught.value.cause) < 300
    assert "\x1b" not in caught.value.cause


def test_undefined_name(package: Path) -> None:
    def change(message: Any) -> None:
        operation(message, "relu").inputs["x"].arguments[0].name = "nobody"

    refused(edit(package, change), "'positive': its parameter 'x' is 'nobody', which is not defined")


def test_cycle(package: Path) -> None:
    def change(message: Any) -> None:
        operation(message, "linear").inputs["x"].arguments[0].name = "y"

    refused(edit(package, change), "'product': its parameter 'x' is 'y', which is not defined before it")


def test_a_name_defined_twice(package: Path) -> None:
    def change(message: Any) -> None:
        operation(message, "relu").outputs[0].name = "product"

    refused(edit(package, change), "defines 'product' again")


def test_an_output_that_nothing_computes(package: Path) -> None:
    def change(message: Any) -> None:
        operation(message, "tile").outputs[0].name = "z"

    refused(edit(package, change), "gives 'y', which it does not compute")


def test_parameters(package: Path) -> None:
    def more(message: Any) -> None:
        operation(message, "relu").inputs["slope"].CopyFrom(operation(message, "relu").inputs["x"])

    def fewer(message: Any) -> None:
        del operation(message, "relu").inputs["x"]

    refused(edit(package, more), "parameter 'slope' is not supported")
    refused(edit(package, lambda m: (operation(m, "relu").inputs.pop("slope"), fewer(m))[0]), "'x' is missing")


def test_a_parameter_of_another_kind(package: Path) -> None:
    def change(message: Any) -> None:
        operation(message, "tile").inputs["reps"].arguments[0].name = "x"

    refused(edit(package, change), "'y': its parameter 'reps' does not fit")


def test_blocks_inside(package: Path) -> None:
    refused(edit(package, lambda message: operation(message, "relu").blocks.add()), "blocks of its own")


def test_declared_shape(package: Path) -> None:
    def change(message: Any) -> None:
        operation(message, "relu").outputs[0].type.tensorType.dimensions[1].constant.size = 5

    refused(edit(package, change), r"'positive' gives torch.float32 \(1, 4\), but declares fp32 \(1, 5\)")


def test_declared_type(package: Path) -> None:
    def change(message: Any) -> None:
        operation(message, "relu").outputs[0].type.tensorType.dataType = 10

    refused(edit(package, change), r"'positive' gives torch.float32 \(1, 4\), but declares fp16 \(1, 4\)")


@pytest.mark.parametrize(("number", "match"), [(99, "unknown"), (0, "unknown")])
def test_unknown_type(package: Path, number: int, match: str) -> None:
    def change(message: Any) -> None:
        operation(message, "relu").outputs[0].type.tensorType.dataType = number

    refused(edit(package, change), match)


@pytest.mark.parametrize("side", [1 << 40, 2**63, 2**64 - 1])
def test_absurd_shape(package: Path, side: int) -> None:
    def change(message: Any) -> None:
        operation(message, "relu").outputs[0].type.tensorType.dimensions[1].constant.size = side

    refused(edit(package, change), "elements")


def test_high_rank(package: Path) -> None:
    def change(message: Any) -> None:
        kind = operation(message, "relu").outputs[0].type.tensorType
        kind.rank = 1000
        for _ in range(998):
            kind.dimensions.add().constant.size = 1

    refused(edit(package, change), "rank 1000")


def test_rank_that_is_not_that_of_the_shape(package: Path) -> None:
    def change(message: Any) -> None:
        operation(message, "relu").outputs[0].type.tensorType.rank = 3

    refused(edit(package, change), "rank 3 and 2 dimensions")


# Sizes that only running would show


@pytest.mark.parametrize("reps", [(1 << 27, 1), (1 << 30, 1), (1 << 30, 1 << 30), (2**31 - 1, 2**31 - 1)])
def test_giant_tile(package: Path, reps: tuple[int, int]) -> None:
    def change(message: Any) -> None:
        name = operation(message, "tile").inputs["reps"].arguments[0].name
        constant(message, name).attributes["val"].immediateValue.tensor.ints.values[:] = reps
        for dimension in operation(message, "tile").outputs[0].type.tensorType.dimensions:
            dimension.unknown.SetInParent()

    tracemalloc.start()
    refused(edit(package, change), "'y' has shape|live|numel|overflow")
    assert tracemalloc.get_traced_memory()[1] < 1 << 24
    tracemalloc.stop()


def test_many_live_tensors(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evm_deploy.runtimes.mil.evaluate.LARGEST_LIVE", 10)
    refused(package, "in memory")


def test_many_constants(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "LARGEST_LIVE", 10)
    refused(package, "the constants have more than 10 elements")


def test_high_rank_of_a_result(
    tmp_path: Path, save_program: Callable[..., Path], evaluate: Callable[..., dict[str, Tensor]]
) -> None:
    """The converter refuses it as well, so the program is made of two that it takes."""

    def body(mb: Any, x: Any) -> Any:
        return mb.expand_dims(x=x, axes=[0, 1, 2], name="y")

    def change(message: Any) -> None:
        axes = operation(message, "expand_dims").inputs["axes"].arguments[0].name
        value = constant(message, axes)
        value.attributes["val"].immediateValue.tensor.ints.values[:] = [0, 1, 2, 3]
        for kind in (value.outputs[0].type.tensorType, value.attributes["val"].type.tensorType):
            kind.dimensions[0].constant.size = 4
        result = operation(message, "expand_dims").outputs[0].type.tensorType
        result.rank = 6
        result.dimensions.add().CopyFrom(result.dimensions[0])
        result.dimensions[4].constant.size, result.dimensions[5].constant.size = 1, 4
        result.dimensions[3].constant.size = 1

    package = save_program(tmp_path / "rank.mlpackage", body, {"x": X})
    assert evaluate(package, x=X)["y"].shape == (1, 1, 1, 1, 4)
    refused(edit(package, change), "rank 6; Core ML allows 5")


# The weight file


def record(package: Path, **fields: int) -> None:
    """Changes fields of the only record."""
    data = bytearray((package / WEIGHTS).read_bytes())
    names = ("sentinel", "dtype", "size", "start", "padding")
    values = dict(zip(names, RECORD.unpack_from(data, 64), strict=True)) | fields
    RECORD.pack_into(data, 64, *values.values())
    (package / WEIGHTS).write_bytes(data)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"sentinel": 0}, "does not begin with its mark"),
        ({"dtype": 1}, "element type 1, not that of fp32"),
        ({"size": 63}, "bytes do not match|padding"),
        ({"size": 60}, "60 bytes do not match fp32"),
        ({"size": 2**63}, "beyond the file"),
        ({"size": 2**64 - 1}, "beyond the file"),
        ({"start": 2**63}, "beyond the file"),
        ({"start": 2**64 - 64}, "beyond the file"),
        ({"start": 0}, "beyond the file"),
        ({"start": 129}, "beyond the file"),
        ({"padding": 3}, "padding"),
        ({"padding": 2**63}, "padding"),
    ],
)
def test_record(package: Path, fields: dict[str, int], match: str) -> None:
    record(package, **fields)
    refused(package, match)


@pytest.mark.parametrize("offset", [0, 1, 65, 128, 192, 2**20, 2**63 - 64, 2**63, 2**64 - 64, 2**64 - 1])
def test_offset(package: Path, offset: int) -> None:
    def change(message: Any) -> None:
        weight(message).blobFileValue.offset = offset

    refused(edit(package, change), "outside the file|does not begin with its mark")


@pytest.mark.parametrize("length", [0, 1, 63, 64, 100, 128, 190])
def test_truncated_weights(package: Path, length: int) -> None:
    data = (package / WEIGHTS).read_bytes()
    assert len(data) == 192
    (package / WEIGHTS).write_bytes(data[:length])
    refused(package, "not a weight file|outside the file|beyond the file")


def test_another_version(package: Path) -> None:
    data = bytearray((package / WEIGHTS).read_bytes())
    struct.pack_into("<I", data, 4, 3)
    (package / WEIGHTS).write_bytes(data)
    refused(package, "version 2")


@pytest.mark.parametrize(
    "name",
    [
        "@model_path/../../../../secret",
        "/etc/passwd",
        "../secret",
        "weights/weight.bin",
        "",
        "@model_path/weights/other",
    ],
)
def test_weight_file_elsewhere(package: Path, name: str) -> None:
    shutil.copy(package / WEIGHTS, package.parent / "secret")

    def change(message: Any) -> None:
        weight(message).blobFileValue.fileName = name

    refused(edit(package, change), "not in the package|leaves the package|missing")
    with pytest.raises(BundleError):
        describe(package)


def test_shape_that_is_not_that_of_the_data(package: Path) -> None:
    def change(message: Any) -> None:
        weight(message).type.tensorType.dimensions[0].constant.size = 1 << 26

    refused(edit(package, change), "64 bytes do not match fp32")


@pytest.mark.parametrize("values", [[], [2], [2, 1, 1]])
def test_immediate_values(package: Path, values: list[int]) -> None:
    def change(message: Any) -> None:
        name = operation(message, "tile").inputs["reps"].arguments[0].name
        constant(message, name).attributes["val"].immediateValue.tensor.ints.values[:] = values

    refused(edit(package, change), f"{len(values)} values for shape")


def test_immediate_value_of_another_type(package: Path) -> None:
    def change(message: Any) -> None:
        name = operation(message, "tile").inputs["reps"].arguments[0].name
        constant(message, name).attributes["val"].immediateValue.tensor.floats.values[:] = [2.0, 1.0]

    refused(edit(package, change), "does not hold int32")


def test_inputs_that_it_does_not_take(package: Path) -> None:
    model = read_model(package)
    evaluator = Evaluator(model.functions[0], Blobs(model.folder))
    for inputs in ({}, {"z": X}, {"x": X, "z": X}, {"x": torch.ones(4)}, {"x": torch.ones(1, 5)}):
        with pytest.raises(BundleError):
            evaluator.run(inputs)


def test_damage_of_any_byte(package: Path) -> None:
    """One changed byte, at whatever place of the model's file, gives a result or a BundleError, and nothing else."""
    data, generator = (package / MODEL).read_bytes(), np.random.default_rng(0)
    for place in generator.choice(len(data), min(len(data), 300), replace=False):
        changed = bytearray(data)
        changed[place] ^= int(generator.integers(1, 256))
        (package / MODEL).write_bytes(changed)
        with contextlib.suppress(BundleError):
            run(package)
