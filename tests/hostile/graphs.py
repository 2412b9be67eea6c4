"""Models that are not what a compiler wrote: ONNX graphs and Core ML programs, their hashes corrected."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import onnx
from cases import Case, Content, copy_bundle, damage, seal
from onnx import TensorProto, helper

Change = Callable[[onnx.ModelProto, random.Random], None]
INTEGERS = (0, -1, 2, 2**31, 2**62, -(2**63), 7)
COMMANDS = (  # and whether they are quick
    (["verify", "bundle"], True),
    (["predict", "bundle", "red.png"], True),
    (["inspect", "bundle"], True),
    (["package", "bundle", "--for", "jetson", "--out", "out"], True),
    (["predict", "bundle", "red.png", "--no-library"], True),
    (["quantize", "bundle", "--data", "images", "--out", "out", "--no-verify"], False),
    (["profile", "bundle", "--iterations", "2", "--operators", "--json"], False),
    (["evaluate", "bundle", "--data", "images", "--latency-runs", "0"], False),
)
OF_COREML = (
    (["verify", "bundle"], True),
    (["predict", "bundle", "red.png"], True),
    (["inspect", "bundle"], True),
    (["inspect", "bundle/model.mlpackage"], True),
    (["quantize", "bundle", "--data", "images", "--out", "out", "--no-verify"], False),
    (["package", "bundle", "--for", "ios", "--out", "out"], True),
)


def make_cases(seeds: Path, rng: random.Random) -> list[Case]:
    cases = []
    for bundle, most in (("onnx_fp32", 110), ("onnx_int8", 60), ("onnx_dynamic", 30), ("tensorrt_fp32", 30)):
        good = (seeds / bundle / "model.onnx").read_bytes()
        made: dict[str, Content] = {}
        for i in range(most):
            change = CHANGES[i % len(CHANGES)]
            made[f"{change.__name__} {i}"] = partial(change_graph, good, change, rng.random())
        made |= {f"damaged {i}": damage(good, rng) for i in range(most // 4)}
        cases += spread(seeds, bundle, "model.onnx", made, COMMANDS)
    for bundle in ("coreml_fp16", "coreml_int8"):
        folder = Path("model.mlpackage")
        data = folder / "Data/com.apple.CoreML"
        breaks = {data / "model.mlmodel": break_program, data / "weights/weight.bin": break_weights}
        for file, break_file in (breaks | {folder / "Manifest.json": break_manifest}).items():
            cases += spread(
                seeds, bundle, str(file), dict(break_file((seeds / bundle / file).read_bytes(), rng)), OF_COREML
            )
    return cases


def spread(seeds: Path, bundle: str, file: str, made: dict[str, Content], commands: Any) -> list[Case]:
    return [
        Case(
            f"{bundle}/{Path(file).name}/{name}",
            write(seeds, bundle, file, data, commands[i % len(commands)][0]),
            commands[i % len(commands)][1],
        )
        for i, (name, data) in enumerate(made.items())
    ]


def write(seeds: Path, bundle: str, file: str, data: Content, command: list[str]) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        path = copy_bundle(seeds / bundle, folder)
        (path / file).write_bytes(data() if callable(data) else data)
        seal(path)
        shutil.copytree(seeds / "images", folder / "images")
        shutil.copy(seeds / "images" / "red" / "0.png", folder / "red.png")
        return command

    return make


def change_graph(good: bytes, change: Change, seed: float) -> bytes:
    model = onnx.load_from_string(good)
    change(model, random.Random(seed))
    return model.SerializeToString()


def list_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [*model.graph.node, *(node for function in model.functions for node in function.node)]


def change_attribute(model: onnx.ModelProto, rng: random.Random) -> None:
    node = rng.choice([node for node in list_nodes(model) if node.attribute])
    attribute = rng.choice(node.attribute)
    value = rng.choice((*INTEGERS, 1e30, float("nan"), "", "x" * 1000, [], [2**62] * 3, [-1, 0], list(range(2000))))
    if rng.random() < 0.6 and attribute.type in (onnx.AttributeProto.INT, onnx.AttributeProto.INTS):  # of its own type
        value = rng.choice(INTEGERS)
        value = [value] * len(attribute.ints) if attribute.type == onnx.AttributeProto.INTS else value
    if value == []:
        attribute.ClearField("ints")
    else:
        attribute.CopyFrom(helper.make_attribute(attribute.name, value))


def change_shape(model: onnx.ModelProto, rng: random.Random) -> None:
    values = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    value = rng.choice(values[:2] if rng.random() < 0.5 else values)
    tensor = value.type.tensor_type
    kind = rng.randrange(4)
    if kind == 0 and tensor.shape.dim:
        rng.choice(tensor.shape.dim).dim_value = rng.choice(INTEGERS)
    elif kind == 1:
        tensor.elem_type = rng.choice(
            (0, TensorProto.STRING, TensorProto.INT64, TensorProto.BOOL, TensorProto.FLOAT16, 99)
        )
    elif kind == 2:
        del tensor.shape.dim[:]
    else:
        value.name = rng.choice(("", "x", "\x1b[2J"))


def change_weights(model: onnx.ModelProto, rng: random.Random) -> None:
    tensor = rng.choice(model.graph.initializer)
    kind = rng.randrange(8)
    if kind == 0:
        tensor.dims[:] = [rng.choice(INTEGERS) for _ in tensor.dims] or [2**40]
    elif kind == 1:
        tensor.raw_data = tensor.raw_data[: rng.choice((0, 1, 3))]
    elif kind == 2:
        tensor.data_type = rng.choice(
            (0, TensorProto.STRING, TensorProto.BFLOAT16, TensorProto.INT4, TensorProto.DOUBLE, 99)
        )
    elif kind == 3:
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (
            ("location", rng.choice(("../red.png", "/etc/passwd", "labels.txt", "none"))),
            ("length", "99"),
        ):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value
    elif kind == 4:
        tensor.raw_data = bytes([0xFF] * len(tensor.raw_data))
    elif kind == 5:
        model.graph.initializer.add().CopyFrom(tensor)
    elif kind == 6:
        tensor.dims.append(0)
    else:
        model.graph.initializer.remove(tensor)


def change_node(model: onnx.ModelProto, rng: random.Random) -> None:
    nodes = model.graph.node
    node = rng.choice(nodes)
    kind = rng.randrange(8)
    if kind == 0:
        node.op_type = rng.choice(("Loop", "If", "Scan", "Nothing", "", "Einsum", "ConstantOfShape", "Expand"))
    elif kind == 1 and node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice(("", "none", node.output[0], model.graph.input[0].name))
    elif kind == 2:
        nodes.remove(node)
    elif kind == 3:
        nodes.add().CopyFrom(node)
    elif kind == 4:
        del node.input[:]
    elif kind == 5:
        node.domain = rng.choice(("evm", "com.microsoft", "x", ""))
    elif kind == 6:
        node.output.append("more")
    else:
        add_bomb(model, rng)


def add_bomb(model: onnx.ModelProto, rng: random.Random) -> None:
    """A few bytes of graph that stand for a tensor of gigabytes, which nothing needs."""
    side = rng.choice((2**31, 2**20))
    model.graph.initializer.append(helper.make_tensor("bomb_shape", TensorProto.INT64, [2], [side, 2**10]))
    model.graph.node.append(helper.make_node("ConstantOfShape", ["bomb_shape"], ["bomb"]))
    model.graph.output.append(helper.make_tensor_value_info("bomb", TensorProto.FLOAT, None))


def change_function(model: onnx.ModelProto, rng: random.Random) -> None:
    if not model.functions:
        change_node(model, rng)
        return
    function = rng.choice(model.functions)
    kind = rng.randrange(6)
    if kind == 0:
        model.functions.remove(function)
    elif kind == 1:
        rng.choice(function.node).CopyFrom(
            helper.make_node(function.name, function.input, function.output, domain=function.domain)
        )
    elif kind == 2:
        del function.input[:]
    elif kind == 3:
        function.node.remove(rng.choice(function.node))
    elif kind == 4:
        model.functions.add().CopyFrom(function)
    else:
        function.opset_import[0].version = rng.choice((0, -1, 10_000))


def change_frame(model: onnx.ModelProto, rng: random.Random) -> None:
    kind = rng.randrange(7)
    if kind == 0:
        model.opset_import[0].version = rng.choice((0, 1, -1, 17, 10_000))
    elif kind == 1:
        del model.opset_import[:]
    elif kind == 2:
        model.ir_version = rng.choice((0, -1, 3, 10_000))
    elif kind == 3:
        del model.graph.output[:]
    elif kind == 4:
        del model.graph.input[:]
    elif kind == 5:
        model.graph.name = "\x1b[2J" + "x" * 10_000
        model.producer_name = "\0"
    else:
        for i in range(2000):
            model.graph.node.append(helper.make_node("Identity", [model.graph.input[0].name], [f"many{i}"]))


CHANGES = (change_attribute, change_shape, change_weights, change_node, change_function, change_frame)


def break_program(good: bytes, rng: random.Random) -> Iterator[tuple[str, Content]]:
    for i in range(60):
        yield f"changed {i}", partial(change_program, good, rng.random())
    for i in range(25):
        yield f"damaged {i}", damage(good, rng)
    yield "empty", b""


def change_program(good: bytes, seed: float) -> bytes:
    from coremltools.proto import Model_pb2

    model, rng = Model_pb2.Model(), random.Random(seed)
    model.ParseFromString(good)
    function = next(iter(model.mlProgram.functions.values()))
    block = next(iter(function.block_specializations.values()))
    operation = rng.choice(block.operations)
    kind = rng.randrange(9)
    if kind == 0:
        operation.type = rng.choice(("", "conv", "while_loop", "nothing", "const", "reshape", "tile"))
    elif kind == 1 and operation.inputs:
        del operation.inputs[rng.choice(list(operation.inputs))]
    elif kind == 2:
        block.operations.remove(operation)
    elif kind == 3:
        block.operations.add().CopyFrom(operation)
    elif kind == 4 and operation.outputs:
        tensor = operation.outputs[0].type.tensorType
        tensor.rank = rng.choice((0, -1, 2**40))
    elif kind == 5 and operation.outputs:
        for dimension in operation.outputs[0].type.tensorType.dimensions:
            dimension.constant.size = rng.choice((0, 2**40, 2**62))
    elif kind == 6:
        change_constant(block, rng)
    elif kind == 7:
        model.specificationVersion = rng.choice((0, -1, 10_000))
    else:
        del block.outputs[:]
    data: bytes = model.SerializeToString()
    return data


def change_constant(block: Any, rng: random.Random) -> None:
    constants = [each for each in block.operations if each.type == "const" and "val" in each.attributes]
    value = rng.choice(constants).attributes["val"]
    if value.WhichOneof("value") == "blobFileValue":
        value.blobFileValue.offset = rng.choice((0, 1, 64, 2**40, 2**63))
    else:
        tensor = value.immediateValue.tensor
        held = getattr(tensor, tensor.WhichOneof("value") or "ints").values
        if held and not isinstance(held, bytes) and isinstance(held[0], int):
            held[:] = [rng.choice((0, -1, 2**30, 2**31 - 1)) for _ in held]
        else:
            value.immediateValue.ClearField("tensor")


def break_weights(good: bytes, rng: random.Random) -> Iterator[tuple[str, Content]]:
    for size in (0, 1, 63, 64, 65, 128, len(good) // 2, len(good) - 1):
        yield f"cut at {size}", good[:size]
    for at in (0, 4, 64, 68, 72, 80):
        for value in (0, 2**31, 2**63):
            yield f"{value} at {at}", good[:at] + value.to_bytes(8, "little") + good[at + 8 :]
    for i in range(10):
        yield f"damaged {i}", damage(good, rng)


def break_manifest(good: bytes, rng: random.Random) -> Iterator[tuple[str, Content]]:
    document = json.loads(good)
    for key in document:
        for i, value in enumerate((None, [], {}, "../..", 2**70, "x" * 10_000)):
            yield f"{key} {i}", json.dumps({**document, key: value}).encode()
    entries = document["itemInfoEntries"]
    for i, path in enumerate((None, "../../../red.png", "/etc/passwd", "", "a\0b", "com.apple.CoreML", 1)):
        changed = {name: {**entry, "path": path} for name, entry in entries.items()}
        yield f"path {i}", json.dumps({**document, "itemInfoEntries": changed}).encode()
