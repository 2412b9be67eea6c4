"""Every way we know to write one selective scan in ONNX, as models of the same inputs and output.

u, delta (1, K, L, D), A (K, N, D), B, C (1, K, L, N), D, delta_bias (K, D) -> y (1, K, L, D); softplus of delta inside.
"""

import math
from collections.abc import Callable

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper

from evm_deploy.graph.functions import write_body
from evm_deploy.operators import OPERATORS
from evm_deploy.operators.body import Body
from evm_deploy.operators.selective_scan import fit_body

OPSET = 20
NAMES = ("u", "delta", "A", "B", "C", "D", "delta_bias")
Shape = tuple[int, int, int, int]  # K, L, D, N


def operator(shape: Shape, chunk: int | None = None) -> onnx.ModelProto:
    """What we export: the operator, its body in chunks, as long as suits the sequence unless a length is given."""
    chunk = chunk or fit_body(shape[1])["chunk"]
    node = helper.make_node("SelectiveScan", list(NAMES), ["y"], domain="evm", delta_softplus=1)
    return _model([node], shape, [write_body(OPERATORS["SelectiveScan"], OPSET, chunk=chunk)])


def unrolled(shape: Shape) -> onnx.ModelProto:
    """One token after the other, as tracing the reference gives it."""
    b = Body()
    delta = b("Softplus", b("Add", "delta", b.unsqueeze("delta_bias", 1)))
    h, ys = "", []
    for t in range(shape[1]):
        step, u, B, C = (b("Gather", name, b.scalar(t), axis=2) for name in (delta, "u", "B", "C"))
        step, u, B, C = b.unsqueeze(step, 2), b.unsqueeze(u, 2), b.unsqueeze(B, 3), b.unsqueeze(C, 3)
        token = b("Mul", b("Mul", step, u), B)  # (1, K, N, D)
        h = b("Add", b("Mul", b("Exp", b("Mul", step, "A")), h), token) if t else token
        ys.append(b.unsqueeze(b("ReduceSum", b("Mul", C, h), b.ints(2), keepdims=0), 2))
    y = b("Concat", *ys, axis=2)
    b("Add", y, b("Mul", "u", b.unsqueeze("D", 1)), name="y")
    return _model(b.nodes, shape)


def split(shape: Shape) -> onnx.ModelProto:
    """One token after the other, by hand: all that does not depend on the state before the loop or after it."""
    L = shape[1]
    b, _, decay, tokens = _start()
    decays = b.many("Split", decay, names=L, axis=2, num_outputs=L)
    inputs = b.many("Split", tokens, names=L, axis=2, num_outputs=L)
    h, states = inputs[0], [inputs[0]]
    for step, token in zip(decays[1:], inputs[1:], strict=True):
        h = b("Add", b("Mul", step, h), token)
        states.append(h)
    return _finish(b, b("Concat", *states, axis=2), shape)


def corrected(shape: Shape, chunk: int = 28) -> onnx.ModelProto:
    """Chunks as well, but each state is corrected by what is carried in, times its decay since the chunk began; the
    carry itself by doubling over chunks.
    """
    K, L, D, N = shape
    chunks = -(-L // chunk)
    b, delta, decay, tokens = _start()
    missing = chunks * chunk - L
    one = b("Constant", value_float=1.0)

    def chunked(tensor: str, value: str, *tail: int) -> str:
        padded = b("Pad", tensor, b.ints(0, missing), value, b.ints(2)) if missing else tensor
        return b("Reshape", padded, b.ints(1, K, chunks, chunk, *tail))

    steps, decays = chunked(b.unsqueeze(delta, 3), "", 1, D), chunked(decay, one, N, D)
    decay_of = b.many("Split", decays, names=chunk, axis=3, num_outputs=chunk)
    token_of = b.many("Split", chunked(tokens, "", N, D), names=chunk, axis=3, num_outputs=chunk)
    h, local = token_of[0], [token_of[0]]
    for step, token in zip(decay_of[1:], token_of[1:], strict=True):
        h = b("Add", b("Mul", step, h), token)
        local.append(h)
    since = b("Exp", b("Mul", b("CumSum", steps, b.scalar(3)), b.unsqueeze("A", 1, 2)))  # decay since the chunk began
    carry, total = h, b("Slice", since, b.ints(chunk - 1), b.ints(chunk), b.ints(3))
    for k in range(math.ceil(math.log2(chunks))):
        pads, end = b.ints(2**k, 0), b.ints(chunks)
        before = b("Slice", b("Pad", carry, pads, "", b.ints(2)), b.ints(0), end, b.ints(2))
        earlier = b("Slice", b("Pad", total, pads, one, b.ints(2)), b.ints(0), end, b.ints(2))
        carry, total = b("Add", carry, b("Mul", total, before)), b("Mul", total, earlier)
    entering = b("Slice", b("Pad", carry, b.ints(1, 0), "", b.ints(2)), b.ints(0), b.ints(chunks), b.ints(2))
    h = b("Add", b("Concat", *local, axis=3), b("Mul", since, entering))
    h = b("Slice", b("Reshape", h, b.ints(1, K, chunks * chunk, N, D)), b.ints(0), b.ints(L), b.ints(2))
    return _finish(b, h, shape)


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
    "chunked, 7 tokens": lambda shape: operator(shape, 7),
    "chunked, 28 tokens": lambda shape: operator(shape, 28),
    "chunked, corrected": corrected,
    "doubling": doubling,
    "LinearAttention": linear_attention,
    "unrolled by hand": split,
    "unrolled": unrolled,
}


def inputs(shape: Shape, seed: int = 0) -> dict[str, np.ndarray]:
    """Values like those of a trained network: A near -1..-N, steps between 1e-3 and 1e-1."""
    K, L, D, N = shape
    rng = np.random.default_rng(seed)

    def normal(*size: int) -> np.ndarray:
        return rng.standard_normal(size, dtype=np.float32)

    A = -np.arange(1, N + 1, dtype=np.float32)[None, :, None] * np.exp(0.1 * normal(K, N, D))
    tokens = (normal(1, K, L, D), normal(1, K, L, D) - 4, A, normal(1, K, L, N), normal(1, K, L, N))
    arrays = (*tokens, normal(K, D), 0.1 * normal(K, D))
    return {name: _aligned(array) for name, array in zip(NAMES, arrays, strict=True)}


def _aligned(array: np.ndarray) -> np.ndarray:
    """On a cache line, where a runtime keeps the tensors inside a graph; NumPy's own lie anywhere."""
    aligned: np.ndarray = torch.from_numpy(array).clone().numpy()
    return aligned


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
