"""Every way we know to write one selective scan in ONNX, as models of the same inputs and output.

u, delta (1, K, L, D), A (K, N, D), B, C (1, K, L, N), D, delta_bias (K, D) -> y (1, K, L, D); softplus of delta inside.
"""

import math
from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper

from evm_deploy.graph import functions
from evm_deploy.graph.body import Body

OPSET = 20
NAMES = ("u", "delta", "A", "B", "C", "D", "delta_bias")
Shape = tuple[int, int, int, int]  # K, L, D, N


def operator(shape: Shape, chunk: int = 28) -> onnx.ModelProto:
    """What we export: the operator, its body in chunks."""
    node = helper.make_node("SelectiveScan", list(NAMES), ["y"], domain="evm", delta_softplus=1)
    return _model([node], shape, [functions.selective_scan(OPSET, chunk)])


def unrolled(shape: Shape) -> onnx.ModelProto:
    """One token after the other: what tracing the reference gives."""
    L = shape[1]
    b, _, decay, tokens = _start()
    decays = b.many("Split", decay, names=L, axis=2, num_outputs=L)
    inputs = b.many("Split", tokens, names=L, axis=2, num_outputs=L)
    h, states = inputs[0], [inputs[0]]
    for step, token in zip(decays[1:], inputs[1:], strict=True):
        h = b("Add", b("Mul", step, h), token)
        states.append(h)
    return _finish(b, b("Concat", *states, axis=2), shape)


def doubling(shape: Shape) -> onnx.ModelProto:
    """Hillis and Steele's scan over all of L: log2(L) steps on the whole state."""
    L = shape[1]
    b, _, decay, h = _start()
    for k in range(math.ceil(math.log2(L))):
        shift = 2**k
        pads, end = b.ints(shift, 0), b.ints(L)
        one = b("Constant", value_float=1.0)
        before = b("Slice", b("Pad", h, pads, "", b.ints(2)), b.ints(0), end, b.ints(2))
        earlier = b("Slice", b("Pad", decay, pads, one, b.ints(2)), b.ints(0), end, b.ints(2))
        h = b("Add", h, b("Mul", decay, before))
        decay = b("Mul", decay, earlier)
    return _finish(b, h, shape)


def linear_attention(shape: Shape) -> onnx.ModelProto:
    """onnxruntime's gated linear attention, one head a channel: decay delta A, key B, value delta u, query C."""
    K, L, D, N = shape
    b, delta, _, _ = _start()
    heads = K * D
    value = b("Reshape", b("Transpose", b("Mul", delta, "u"), perm=[0, 2, 1, 3]), b.ints(1, L, heads))
    rates = b("Transpose", "A", perm=[0, 2, 1])  # (K, D, N)
    gate = b("Mul", b("Unsqueeze", b("Transpose", delta, perm=[0, 2, 1, 3]), b.ints(4)), rates)  # (1, L, K, D, N)
    gate = b("Reshape", gate, b.ints(1, L, heads * N))

    def per_channel(name: str) -> str:
        rows = b("Unsqueeze", b("Transpose", name, perm=[0, 2, 1, 3]), b.ints(3))  # (1, L, K, 1, N)
        return b("Reshape", b("Expand", rows, b.ints(1, L, K, D, N)), b.ints(1, L, heads * N))

    y, _ = b.many(
        "LinearAttention",
        per_channel("C"),
        per_channel("B"),
        value,
        "",
        gate,
        names=2,
        domain="com.microsoft",
        q_num_heads=heads,
        kv_num_heads=heads,
        update_rule="gated",
        scale=1.0,
    )
    y = b("Transpose", b("Reshape", y, b.ints(1, L, K, D)), perm=[0, 2, 1, 3])
    b("Add", y, b("Mul", "u", b.unsqueeze("D", 1)), name="y")
    return _model(b.nodes, shape)


FORMS: dict[str, Callable[[Shape], onnx.ModelProto]] = {
    "chunked (exported)": operator,
    "chunked, 14 tokens": lambda shape: operator(shape, 14),
    "chunked, 56 tokens": lambda shape: operator(shape, 56),
    "doubling": doubling,
    "LinearAttention": linear_attention,
    "unrolled": unrolled,
}


def inputs(shape: Shape, seed: int = 0) -> dict[str, np.ndarray]:
    """Values like those of a trained network: A near -1..-N, steps between 1e-3 and 1e-1."""
    K, L, D, N = shape
    rng = np.random.default_rng(seed)

    def normal(*size: int) -> np.ndarray:
        return rng.standard_normal(size, dtype=np.float32)

    A = -np.arange(1, N + 1, dtype=np.float32)[None, :, None] * np.exp(0.1 * normal(K, N, D))
    arrays = (normal(1, K, L, D), normal(1, K, L, D) - 4, A, normal(1, K, L, N), normal(1, K, L, N), normal(K, D))
    return dict(zip(NAMES, (*arrays, 0.1 * normal(K, D)), strict=True))


def _start() -> tuple[Body, str, str, str]:
    """delta (1, K, L, D); exp(delta A) and delta B u (1, K, L, N, D)."""
    b = Body()
    delta = b("Softplus", b("Add", "delta", b.unsqueeze("delta_bias", 1)))
    decay = b("Exp", b("Mul", b.unsqueeze(delta, 3), b.unsqueeze("A", 1)))
    tokens = b("Mul", b.unsqueeze(b("Mul", delta, "u"), 3), b.unsqueeze("B", 4))
    return b, delta, decay, tokens


def _finish(b: Body, h: str, shape: Shape) -> onnx.ModelProto:
    y = b("Squeeze", b("MatMul", b.unsqueeze("C", 3), h), b.ints(3))
    b("Add", y, b("Mul", "u", b.unsqueeze("D", 1)), name="y")
    return _model(b.nodes, shape)


def _model(
    nodes: list[onnx.NodeProto], shape: Shape, bodies: list[onnx.FunctionProto] | None = None
) -> onnx.ModelProto:
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape) for name, array in inputs(shape).items()
    ]
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, *shape[:3]])
    imports = [helper.make_opsetid(*entry) for entry in (("", OPSET), ("evm", 1), ("com.microsoft", 1))]
    graph = helper.make_graph(nodes, "scan", values, [y])
    return helper.make_model(graph, functions=bodies or [], opset_imports=imports, ir_version=10)
