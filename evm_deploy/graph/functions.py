"""What the scans of the domain `evm` mean, in standard ONNX: the bodies that a stock runtime inlines.

No Loop, Scan, If or Einsum; any batch, length and image size; every exponent is a sum of non-positive terms.
The recurrence is float32 whatever the type of the inputs.
"""

from collections.abc import Callable

import onnx

from evm_deploy.graph.body import END, Body
from evm_deploy.graph.norm_functions import gated_norm, mean_of_norm

DOMAIN, VERSION = "evm", 1
SCANS = ("EfficientScan2D", "QuantizedEfficientScan2D", "SelectiveScan")


def bodies(proto: onnx.ModelProto) -> list[onnx.FunctionProto]:
    """The bodies that the nodes of `proto` need, written for its opset."""
    opset = next(entry.version for entry in proto.opset_import if entry.domain == "")
    called = {node.op_type: node for node in proto.graph.node if node.domain == DOMAIN}
    found = []
    forms = {"EfficientScan2D": efficient_scan_2d, "QuantizedEfficientScan2D": quantized_efficient_scan_2d}
    for name, body in forms.items():
        if name in called:
            step = next(a.i for a in called[name].attribute if a.name == "step")  # a model has one
            found.append(body(opset, step))
    if any(scan in called for scan in SCANS):
        found.append(selective_scan(opset))
    if "GatedNorm" in called:
        found.append(gated_norm(opset))
    if "MeanOfNorm" in called:
        found.append(mean_of_norm(opset))
    if "Lookup" in called:
        found.append(lookup(opset))
    return found


def selective_scan(opset: int, chunk: int = 28) -> onnx.FunctionProto:
    """y (B, K, L, D) of u, delta (B, K, L, D), A (K, N, D), B, C (B, K, L, N), D, delta_bias (K, D).

    All seven inputs are needed: a body cannot ask whether an optional input is there, so the exporter writes zeros.
    """
    b = Body()
    u, B, C = (b.floats(name) for name in ("u", "B", "C"))
    delta = b("Add", b.floats("delta"), b.unsqueeze("delta_bias", 1))
    b.nodes.append(_reference_attribute("delta_softplus", "flag"))
    delta = b("Where", b("Cast", "flag", to=onnx.TensorProto.BOOL), b("Softplus", delta), delta)

    L = b.size(u, 2)
    missing = {2: b.missing(L, chunk)}
    padded_u, delta, B, C = (b.pad(t, 4, after=missing) for t in (u, delta, B, C))  # delta = 0 keeps the state
    x = b("Mul", b.unsqueeze(b("Mul", delta, padded_u), 3), b.unsqueeze(B, 4))  # (B, K, L', N, D)
    h = _states(b, b.unsqueeze(delta, 3), b.unsqueeze("A", 1), x, chunk, levels=2)
    y = b("Squeeze", b("MatMul", b.unsqueeze(C, 3), h), b.ints(3))  # (B, K, L', D)
    y = b("Slice", y, b.ints(0), L, b.ints(2))
    y = b("Add", y, b("Mul", u, b.unsqueeze("D", 1)))
    b("CastLike", y, "u", name="y")
    return b.function(
        "SelectiveScan", ["u", "delta", "A", "B", "C", "D", "delta_bias"], ["y"], ["delta_softplus"], opset
    )


def efficient_scan_2d(opset: int, step: int = 2) -> onnx.FunctionProto:
    """y (B, H, W, D) of x (B, H, W, D), x_proj (K, D, R+2N), dt_proj (K, R, D), dt_bias (K, D), A (K, N, D), D (K, D).

    A node of the graph carries `step` for the kernel; the body is written for that one value.
    """
    b = Body()
    x, x_proj, dt_proj = (b.floats(name) for name in ("x", "x_proj", "dt_proj"))
    _scan_2d(b, x, dt_proj, step, lambda u: b("MatMul", u, x_proj))
    return b.function("EfficientScan2D", ["x", "x_proj", "dt_proj", "dt_bias", "A", "D"], ["y"], ["step"], opset)


def quantized_efficient_scan_2d(opset: int, step: int = 2) -> onnx.FunctionProto:
    """The same with x_proj in int8, x_proj_scale (K, R+2N), and for its sake alone x in uint8: scale and zero point.

    dt, B and C come out as floats; what is scanned is x as it was.
    """
    b = Body()
    scale = b.unsqueeze(b("Mul", "x_proj_scale", "x_scale"), 1)  # (K, 1, R+2N)

    def project(u: str) -> str:
        integers = b("QuantizeLinear", u, "x_scale", "x_zero_point")
        return b("Mul", b.floats(b("MatMulInteger", integers, "x_proj", "x_zero_point")), scale)

    _scan_2d(b, "x", "dt_proj", step, project)
    inputs = ["x", "x_scale", "x_zero_point", "x_proj", "x_proj_scale", "dt_proj", "dt_bias", "A", "D"]
    return b.function("QuantizedEfficientScan2D", inputs, ["y"], ["step"], opset)


def lookup(opset: int) -> onnx.FunctionProto:
    """y = table[x] for x in uint8, of any shape, and a table of 256 numbers, whose type y has.

    GatherElements copies numbers where Gather copies slices, which onnxruntime does eight times slower.
    """
    b = Body()
    flat = b("Reshape", b("Cast", "x", to=onnx.TensorProto.INT32), b.ints(-1))
    b("Reshape", b("GatherElements", "table", flat, axis=0), b("Shape", "x"), name="y", allowzero=1)
    return b.function("Lookup", ["x", "table"], ["y"], [], opset)


def _scan_2d(b: Body, x: str, dt_proj: str, step: int, project: Callable[[str], str]) -> None:
    """y of x (B, H, W, D); `project` makes (B, K, L, R+2N) of the tokens (B, K, L, D)."""
    H, W = b.size(x, 1), b.size(x, 2)
    x = b.pad(x, 4, after={1: b.missing(H, step), 2: b.missing(W, step)})
    u = b("Concat", *(_group(b, x, k, step) for k in range(step * step)), axis=1)  # (B, K, L, D)
    R, N = b.size("dt_proj", 1), b.size("A", 1)
    dt, B, C = b.many("Split", project(u), b.shape(R, N, N), names=3, axis=-1)
    delta = b("MatMul", dt, dt_proj)
    y = b("SelectiveScan", u, delta, "A", B, C, "D", "dt_bias", domain=DOMAIN, delta_softplus=1)
    y = b("Slice", _ungroup(b, y, x, step), b.ints(0, 0), b("Concat", H, W, axis=0), b.ints(1, 2))
    b("CastLike", y, "x", name="y")


def _states(b: Body, delta: str, A: str, x: str, T: int, levels: int) -> str:
    """h_t = exp(delta_t A) h_{t-1} + x_t. delta (B, K, L, 1, D), A (K, 1, N, D), x and h (B, K, L, N, D), L = 0 mod T.

    T steps in all chunks at once give the states at the chunks' ends; those are a scan over chunks (the next level);
    T steps more, from what that scan carries in, give every state.
    """
    if levels == 0:
        return _states_of_all_pairs(b, delta, A, x)
    rest = b("Shape", x, start=3)  # N, D
    delta = b("Reshape", delta, b.shape(0, 0, -1, T, 1, b.size(delta, 4)))
    x = b("Reshape", x, b.shape(0, 0, -1, T, rest))  # (B, K, chunks, T, N, D)
    decays = b.many("Split", b("Exp", b("Mul", delta, b.unsqueeze(A, 1))), names=T, axis=3, num_outputs=T)
    tokens = b.many("Split", x, names=T, axis=3, num_outputs=T)

    h = tokens[0]
    for decay, token in zip(decays[1:], tokens[1:], strict=True):
        h = b("Add", b("Mul", decay, h), token)
    elapsed = b("ReduceSum", delta, b.ints(3), keepdims=0)  # (B, K, chunks, 1, D)
    chunks = b.size(elapsed, 2)
    ends = b("Squeeze", h, b.ints(3))
    if levels > 1:
        missing = {2: b.missing(chunks, T)}
        elapsed, ends = b.pad(elapsed, 5, after=missing), b.pad(ends, 5, after=missing)
    carried = b.pad(_states(b, elapsed, A, ends, T, levels - 1), 5, before={2: b.ints(1)})
    h = b.unsqueeze(b("Slice", carried, b.ints(0), chunks, b.ints(2)), 3)  # what enters each chunk

    states = []
    for decay, token in zip(decays, tokens, strict=True):
        h = b("Add", b("Mul", decay, h), token)
        states.append(h)
    return b("Reshape", b("Concat", *states, axis=3), b.shape(0, 0, -1, rest))


def _states_of_all_pairs(b: Body, delta: str, A: str, x: str) -> str:
    """The same without steps, over M = L / T^2 tokens (1 at 224): h_i = sum of exp(A sum(delta_j+1..i)) x_j, j <= i.

    Quadratic in M, yet smaller than the states themselves up to L = T^4; and exact for any L.
    """
    M = b("Squeeze", b.size(x, 2))
    m = b("Range", b.scalar(0), M, b.scalar(1))
    i, j = b.unsqueeze(m, 1), m  # (M, 1), (M,)
    past = b("GreaterOrEqual", i, j)  # (M, M): j <= i
    between = b("And", b.unsqueeze(past, 1), b("Greater", m, i))  # (i, j, m): j < m <= i
    between = b("Reshape", b.floats(between), b.shape(-1, b.size(x, 2)))  # (M*M, M)
    span = b("MatMul", between, b("Squeeze", delta, b.ints(3)))  # (B, K, M*M, D)
    span = b("Reshape", span, b.shape(0, 0, b.size(x, 2), b.size(x, 2), 1, b.size(x, 4)))  # (B, K, M, M, 1, D)
    decay = b("Mul", b("Exp", b("Mul", span, b.unsqueeze(A, 1))), b.unsqueeze(b.floats(past), 2, 3))
    return b("ReduceSum", b("Mul", decay, b.unsqueeze(x, 2)), b.ints(3), keepdims=0)


def _group(b: Body, x: str, k: int, step: int) -> str:
    """Tokens of group k of the padded x, (B, 1, L, D): rows k % step, columns k // step; odd groups by columns."""
    group = b("Slice", x, b.ints(k % step, k // step), b.ints(END, END), b.ints(1, 2), b.ints(step, step))
    if k % 2:
        group = b("Transpose", group, perm=[0, 2, 1, 3])
    return b("Reshape", group, b.shape(0, 1, -1, b.size(x, 3)))


def _ungroup(b: Body, y: str, x: str, step: int) -> str:
    """(B, K, L, D) back to the places in the padded x, (B, H', W', D)."""
    D, divisor = b.size(x, 3), b.ints(step)
    h, w = b("Div", b.size(x, 1), divisor), b("Div", b.size(x, 2), divisor)
    by_row, by_column = b.shape(0, h, w, D), b.shape(0, w, h, D)
    groups = b.many("Split", y, names=step * step, axis=1, num_outputs=step * step)
    placed = []
    for k, group in enumerate(groups):
        group = b("Reshape", b("Squeeze", group, b.ints(1)), by_column if k % 2 else by_row)
        placed.append(b("Transpose", group, perm=[0, 2, 1, 3]) if k % 2 else group)  # (B, h, w, D)
    columns = []
    for c in range(step):
        rows = [b.unsqueeze(group, 2) for group in placed[c * step : (c + 1) * step]]
        columns.append(b.unsqueeze(b("Concat", *rows, axis=2), 4))  # (B, h, step, w, 1, D)
    return b("Reshape", b("Concat", *columns, axis=4), b.shape(0, b.size(x, 1), b.size(x, 2), D))


def _reference_attribute(attribute: str, output: str) -> onnx.NodeProto:
    """A scalar constant whose value is the attribute of the node that calls the function."""
    node = onnx.helper.make_node("Constant", [], [output])
    value = node.attribute.add()
    value.name, value.ref_attr_name, value.type = "value_int", attribute, onnx.AttributeProto.INT
    return node
