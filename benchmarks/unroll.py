"""A graph as tracing the recurrence gives it: every token of every scan a few nodes of its own."""

import onnx
import onnx.inliner
from onnx import helper

from evm_deploy.graph.functions import write_body
from evm_deploy.operators import OPERATORS
from evm_deploy.operators.body import Body


def unroll(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with each scan written out token by token; its image size must be fixed."""
    opset = next(entry.version for entry in model.opset_import if entry.domain == "")
    flat = onnx.ModelProto()
    flat.CopyFrom(model)
    del flat.functions[:]
    flat.functions.append(write_body(OPERATORS["EfficientScan2D"], opset))
    flat = onnx.shape_inference.infer_shapes(onnx.inliner.inline_local_functions(flat), data_prop=True)
    shapes = {
        value.name: [size.dim_value for size in value.type.tensor_type.shape.dim] for value in flat.graph.value_info
    }
    names = set()
    for node in flat.graph.node:
        if node.op_type == "SelectiveScan":
            node.op_type = f"SelectiveScan{shapes[node.input[0]][2]}"
            names.add(node.op_type)
    flat.functions.extend(_sequential(name, opset) for name in names)
    return onnx.inliner.inline_local_functions(flat)


def _sequential(name: str, opset: int) -> onnx.FunctionProto:
    """The recurrence over the number of tokens that the name ends with."""
    L = int(name.removeprefix("SelectiveScan"))
    b = Body()
    delta = b("Softplus", b("Add", "delta", b.unsqueeze("delta_bias", 1)))
    decays = b.many(
        "Split", b("Exp", b("Mul", b.unsqueeze(delta, 3), b.unsqueeze("A", 1))), names=L, axis=2, num_outputs=L
    )
    tokens = b("Mul", b.unsqueeze(b("Mul", delta, "u"), 3), b.unsqueeze("B", 4))
    inputs = b.many("Split", tokens, names=L, axis=2, num_outputs=L)
    C = b.many("Split", b.unsqueeze("C", 3), names=L, axis=2, num_outputs=L)
    h, ys = inputs[0], [b("MatMul", C[0], inputs[0])]
    for step, token, c in zip(decays[1:], inputs[1:], C[1:], strict=True):
        h = b("Add", b("Mul", step, h), token)
        ys.append(b("MatMul", c, h))
    y = b("Squeeze", b("Concat", *ys, axis=2), b.ints(3))
    b("Add", y, b("Mul", "u", b.unsqueeze("D", 1)), name="y")
    inputs_ = ["u", "delta", "A", "B", "C", "D", "delta_bias"]
    return helper.make_function(
        "evm", name, inputs_, ["y"], b.nodes, [helper.make_opsetid("", opset)], ["delta_softplus"]
    )
