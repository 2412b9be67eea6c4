"""`evm::GatedNorm` and `evm::MeanOfNorm`: the kernels and the function bodies against PyTorch in float64."""

from collections.abc import Sequence

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from evm_deploy.graph.functions import write_body
from evm_deploy.operators import OPERATORS
from evm_deploy.scan import native
from evm_deploy.tolerances import FP16_IO_RELATIVE, KERNEL_RELATIVE

pytestmark = pytest.mark.processor

BODIES = {name: write_body(OPERATORS[name], 20) for name in ("GatedNorm", "MeanOfNorm")}
EPSILON = 1e-5
needs_library = pytest.mark.skipif(not native.available(), reason="no native library")


def run(op: str, inputs: Sequence[np.ndarray], library: bool, threads: int = 1) -> np.ndarray:
    names = ["x", "z", "scale", "bias"] if op == "GatedNorm" else ["x", "scale", "bias"]
    kind = helper.np_dtype_to_tensor_dtype(inputs[0].dtype)
    values = [helper.make_tensor_value_info(n, kind, [None] * a.ndim) for n, a in zip(names, inputs, strict=True)]
    node = helper.make_node(op, names, ["y"], domain="evm", epsilon=EPSILON)
    graph = helper.make_graph([node], "norm", values, [helper.make_tensor_value_info("y", kind, None)])
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("evm", 1)]
    bodies = [] if library else [BODIES[op]]  # without the body, nothing but the kernel can have run
    model = helper.make_model(graph, functions=bodies, opset_imports=imports, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 4
    if library:
        options.register_custom_ops_library(str(native.native_library()))
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip(names, inputs, strict=True)))[0]


def expected(op: str, inputs: Sequence[np.ndarray]) -> np.ndarray:
    x, *rest = (torch.from_numpy(a).double() for a in inputs)
    scale, bias = rest[-2:]
    normed = F.layer_norm(x, x.shape[-1:], scale, bias, EPSILON)
    y = normed * F.silu(rest[0]) if op == "GatedNorm" else normed.mean((1, 2), keepdim=True)
    return y.numpy()


def arguments(op: str, shape: tuple[int, int, int, int], seed: int, offset: float = 0.0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    maps = [offset + 3 * rng.standard_normal(shape, dtype=np.float32) for _ in range(1 + (op == "GatedNorm"))]
    return [*maps, *(rng.standard_normal(shape[-1], dtype=np.float32) for _ in range(2))]


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    assert found.shape == wanted.shape
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize("op", BODIES)
@pytest.mark.parametrize("library", [False, pytest.param(True, marks=needs_library)], ids=["body", "kernel"])
@settings(max_examples=25)
@given(
    batch=st.integers(1, 3),
    H=st.integers(1, 20),
    W=st.integers(1, 20),
    C=st.sampled_from([7, 16, 31, 48, 96, 130]),
    seed=st.integers(0, 99),
)
def test_float32(op: str, library: bool, batch: int, H: int, W: int, C: int, seed: int) -> None:
    inputs = arguments(op, (batch, H, W, C), seed)
    assert relative(run(op, inputs, library), expected(op, inputs)) <= KERNEL_RELATIVE


@needs_library
@pytest.mark.parametrize("op", BODIES)
def test_every_instruction_set_and_any_number_of_threads(op: str) -> None:
    inputs = arguments(op, (2, 23, 17, 53), seed=0)
    best = native.isa()
    try:
        for isa in ("avx512vnni", "avx512", "avx2", "neon", "baseline"):
            try:
                native.set_isa(isa)
            except ValueError:
                continue
            one = run(op, inputs, library=True)
            assert relative(one, expected(op, inputs)) <= KERNEL_RELATIVE
            np.testing.assert_array_equal(one, run(op, inputs, library=True, threads=3))
    finally:
        native.set_isa(best)


@needs_library
@pytest.mark.parametrize("op", BODIES)
def test_float16(op: str) -> None:
    inputs = [a.astype(np.float16) for a in arguments(op, (2, 9, 8, 40), seed=1)]
    found = run(op, inputs, library=True)
    assert found.dtype == np.float16
    assert relative(found, expected(op, inputs)) <= FP16_IO_RELATIVE


@needs_library
def test_a_large_offset_does_not_cancel() -> None:
    """Rows of mean 1000 and deviation 3: E[x^2] - E[x]^2 in float32 would have lost the variance."""
    inputs = arguments("MeanOfNorm", (1, 4, 4, 64), seed=2, offset=1000.0)
    assert relative(run("MeanOfNorm", inputs, library=True), expected("MeanOfNorm", inputs)) <= 2e-4


@needs_library
def test_gates_far_from_zero() -> None:
    inputs = arguments("GatedNorm", (1, 2, 2, 32), seed=3)
    inputs[1] *= 1e4
    inputs[1][0, 0, 0, :4] = [-3e38, 3e38, 0, -88]
    found = run("GatedNorm", inputs, library=True)
    assert np.isfinite(found).all()
    assert relative(found, expected("GatedNorm", inputs)) <= KERNEL_RELATIVE


@needs_library
def test_shapes_that_do_not_fit_are_refused() -> None:
    x, z, scale, bias = arguments("GatedNorm", (1, 2, 3, 8), seed=4)
    with pytest.raises(Exception, match="z has shape"):
        run("GatedNorm", [x, z[:, :1], scale, bias], library=True)
    with pytest.raises(Exception, match="scale has shape"):
        run("MeanOfNorm", [x, scale[:3], bias], library=True)
    with pytest.raises(Exception, match="with tokens and channels"):
        run("MeanOfNorm", [x[:, :0], scale, bias], library=True)
