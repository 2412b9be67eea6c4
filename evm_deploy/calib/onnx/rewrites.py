"""Rewrites a float graph with operators that runtimes support on integers, or that lose less accuracy."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from onnxscript import ir

from evm_deploy.calib.onnx.layers import read_constant
from evm_deploy.manifest import Preprocessing

TO_NHWC = [0, 2, 3, 1]


def rewrite_pools(graph: ir.Graph) -> None:
    """Replaces the mean over the pixels of an NCHW map by GlobalAveragePool, which runtimes support on integers."""
    for node in list(graph):
        given = node.inputs[1] if node.op_type == "ReduceMean" and len(node.inputs) > 1 else None
        axes = given.const_value.numpy().tolist() if given is not None and given.const_value is not None else None
        if axes == [2, 3] and node.attributes.get_int("keepdims", 1) == 1:
            replace_node(graph, node, ir.node("GlobalAveragePool", node.inputs[:1], name=node.name))


def rewrite_pixels(graph: ir.Graph, preprocessing: Preprocessing, zero: int) -> str | None:
    """Undoes the normalisation of a float image, so that its integers are the pixels themselves, minus `zero`.

    Rounding normalised pixels to another grid would cost as much as the faintest visible differences in them.
    Returns the name of the value that then holds pixels; None if the image is not normalised, or is used by anything
    but one convolution without padding.
    """
    image = graph.inputs[0]
    uses = list(image.uses())
    if image.dtype != ir.DataType.FLOAT or len(uses) != 1 or not _is_plain_convolution(uses[0][0]):
        return None
    conv = uses[0][0]
    mean, std = (255 * np.array(values, np.float64) for values in (preprocessing.mean, preprocessing.std))
    weight, bias = (np.float64(read_constant(value)) for value in conv.inputs[1:3] if value is not None)
    weight = weight / std[:, None, None]  # (O, 3, kh, kw)
    bias = bias - (weight * (mean - zero)[:, None, None]).sum((1, 2, 3))
    for index, numbers in ((1, weight), (2, bias)):
        _set_constant(conv, index, numbers)
    scaled = _make_channel_operation(graph, "Mul", image, std, "image.std")
    shifted = _make_channel_operation(graph, "Add", scaled.outputs[0], mean - zero, "image.mean")
    shifted.outputs[0].name = "pixels"
    graph.insert_before(graph[0], [scaled, shifted])
    conv.replace_input_with(0, shifted.outputs[0])
    return "pixels"


def rewrite_products(graph: ir.Graph) -> None:
    """Replaces convolutions of separate patches, whose results continue as NHWC, by matrix products with float results.

    Integer convolutions of onnxruntime give integers, whose range has to hold every token; the norms that follow
    would then magnify the rounding errors of tokens with small values.
    """
    for node in list(graph):
        uses = list(node.outputs[0].uses()) if node.op_type == "Conv" else []
        image = node.inputs[0] if uses else None
        if len(uses) != 1 or image is None or not _is_plain_convolution(node):
            continue
        transpose = uses[0][0]
        shape = None if image.shape is None else [side if isinstance(side, int) else None for side in image.shape]
        if transpose.op_type != "Transpose" or list(transpose.attributes["perm"].as_ints()) != TO_NHWC or shape is None:
            continue
        kernel = list(node.attributes["kernel_shape"].as_ints())
        if kernel != [1, 1] and any(side is None or side % k for side, k in zip(shape[2:], kernel, strict=True)):
            continue
        _write_product(graph, node, transpose, shape, kernel)


def replace_node(graph: ir.Graph, old: ir.Node, new: ir.Node) -> None:
    """Replaces `old` by `new`; the output keeps its name."""
    before, after = old.outputs[0], new.outputs[0]
    after.name, after.shape, after.type = before.name, before.shape, before.type
    graph.insert_before(old, new)
    before.replace_all_uses_with(after, replace_graph_outputs=True)
    graph.remove(old, safe=True)


def add_constant(graph: ir.Graph, name: str, numbers: npt.NDArray[np.generic] | np.generic) -> ir.Value:
    """Adds the numbers to the graph as a constant."""
    tensor = ir.tensor(np.asarray(numbers, order="C"), name=name)
    value = ir.Value(name=name, const_value=tensor, shape=ir.Shape(numbers.shape), type=ir.TensorType(tensor.dtype))
    graph.register_initializer(value)
    return value


def _is_plain_convolution(node: ir.Node) -> bool:
    """Whether the node is a convolution with constant weights and a bias, over patches that do not overlap, without
    padding or groups.
    """
    if (
        node.op_type != "Conv"
        or len(node.inputs) != 3
        or any(v is None or v.const_value is None for v in node.inputs[1:])
    ):
        return False
    ints = {name: list(a.as_ints()) for name, a in node.attributes.items() if a.type == ir.AttributeType.INTS}
    kernel = ints.get("kernel_shape", [])
    return (
        ints.get("strides", [1, 1]) == kernel
        and not any(ints.get("pads", []))
        and set(ints.get("dilations", [1])) == {1}
        and node.attributes.get_int("group", 1) == 1
        and node.attributes.get_string("auto_pad", "NOTSET") == "NOTSET"
    )


def _write_product(
    graph: ir.Graph, conv: ir.Node, transpose: ir.Node, shape: Sequence[int | None], kernel: Sequence[int]
) -> None:
    weight, bias = conv.inputs[1:3]
    assert weight is not None
    assert bias is not None
    (kh, kw), channels = kernel, shape[1]
    value = conv.inputs[0]
    made = []
    if kernel == [1, 1]:
        made.append(ir.node("Transpose", [value], {"perm": TO_NHWC}, name=f"{conv.name}.rows"))
    else:
        assert shape[2] is not None
        assert shape[3] is not None
        h, w = shape[2] // kh, shape[3] // kw
        patches = add_constant(graph, f"{conv.name}.patches", np.array([-1, channels, h, kh, w, kw]))
        rows = add_constant(graph, f"{conv.name}.rows", np.array([-1, h, w, channels * kh * kw if channels else -1]))
        made.append(ir.node("Reshape", [value, patches], name=f"{conv.name}.cut"))
        made.append(ir.node("Transpose", made[-1].outputs, {"perm": [0, 2, 4, 1, 3, 5]}, name=f"{conv.name}.gather"))
        made.append(ir.node("Reshape", [made[-1].outputs[0], rows], name=f"{conv.name}.flat"))
    numbers = read_constant(weight)
    _remove_constant(graph, weight)
    matrix = add_constant(graph, str(weight.name), numbers.reshape(len(numbers), -1).T)  # (I * kh * kw, O)
    made.append(ir.node("MatMul", [made[-1].outputs[0], matrix], name=conv.name))
    made.append(ir.node("Add", [made[-1].outputs[0], bias], name=f"{conv.name}.add"))
    for i, node in enumerate(made[:-1]):
        node.outputs[0].name = f"{conv.name}.{i}"
    graph.insert_before(conv, made[:-1])
    replace_node(graph, transpose, made[-1])
    graph.remove(conv, safe=True)


def _make_channel_operation(
    graph: ir.Graph, operator: str, value: ir.Value, numbers: npt.NDArray[np.float64], name: str
) -> ir.Node:
    channels = add_constant(graph, name, numbers.astype(np.float32).reshape(1, -1, 1, 1))
    node = ir.node(operator, [value, channels], name=f"{name}.{operator.lower()}")
    output = node.outputs[0]
    output.name, output.shape, output.type = f"{name}.value", value.shape, value.type
    return node


def _set_constant(node: ir.Node, index: int, numbers: npt.NDArray[np.float64]) -> None:
    value = node.inputs[index]
    assert value is not None
    value.const_value = ir.tensor(numbers.astype(np.float32), name=value.name)


def _remove_constant(graph: ir.Graph, value: ir.Value) -> None:
    del graph.initializers[str(value.name)]
