"""The scan with its first projection on integers: by its body in a stock runtime, and by every kernel."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper
from torch import Tensor

from evm_deploy.calib.onnx.scheme import quantise_weights
from evm_deploy.graph.functions import write_body
from evm_deploy.operators import OPERATORS
from evm_deploy.scan import native, reference
from evm_deploy.scan.inputs import QuantizedScan2DInputs
from evm_deploy.tolerances import KERNEL_RELATIVE

pytestmark = pytest.mark.processor

Make = Callable[..., Any]
Error = Callable[[Tensor, Tensor], float]
Inputs = dict[str, np.ndarray]
NAMES = ("x", "x_scale", "x_zero_point", "x_proj", "x_proj_scale", "dt_proj", "dt_bias", "A", "D")
CHANNELS = st.sampled_from([1, 3, 4, 7, 8, 15, 16, 33, 48, 100])


def inputs_of(case: Any, zero: int, scale: float = 0.03) -> Inputs:
    """The case with x_proj rounded to int8, as `quantize` does it."""
    x_proj, scales = quantise_weights(case.x_proj.numpy(), (0, 2))
    rest = {name: getattr(case, name).numpy() for name in ("dt_proj", "dt_bias", "A", "D")}
    return {
        "x": case.x.numpy(),
        "x_scale": np.array(scale, np.float32),
        "x_zero_point": np.array(zero, np.uint8),
        "x_proj": x_proj,
        "x_proj_scale": scales,
        **rest,
    }


def expected(inputs: Inputs, step: int) -> Tensor:
    exact = [torch.from_numpy(inputs[name]).double() for name in NAMES]
    scale = float(inputs["x_scale"])
    return reference.run(QuantizedScan2DInputs(exact[0], scale, int(inputs["x_zero_point"]), *exact[3:], step))


def run(inputs: Inputs, step: int, *, library: bool, threads: int = 1) -> Tensor:
    values = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in inputs.items()
    ]
    node = helper.make_node("QuantizedEfficientScan2D", list(NAMES), ["y"], domain="evm", step=step)
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    model = helper.make_model(
        helper.make_graph([node], "scan", values, [y]),
        functions=[
            write_body(OPERATORS["SelectiveScan"], 20),
            write_body(OPERATORS["QuantizedEfficientScan2D"], 20, step=step),
        ],
        opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid("evm", 1)],
        ir_version=10,
    )
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, threads
    if library:
        options.register_custom_ops_library(str(native.native_library()))
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, inputs)[0])


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batch=st.integers(1, 2),
    H=st.integers(1, 12),
    W=st.integers(1, 12),
    channels=CHANNELS,
    N=st.sampled_from([1, 8, 16, 17]),
    R=st.integers(1, 5),
    step=st.integers(1, 3),
    zero=st.sampled_from([0, 3, 128, 255]),
    seed=st.integers(0, 9),
)
def test_every_kernel(
    isa: str,
    make_scan_2d: Make,
    relative_error: Error,
    batch: int,
    H: int,
    W: int,
    channels: int,
    N: int,
    R: int,
    step: int,
    zero: int,
    seed: int,
) -> None:
    inputs = inputs_of(make_scan_2d(batch, H, W, channels, N, R, step, seed), zero)
    assert relative_error(run(inputs, step, library=True), expected(inputs, step)) < 2 * KERNEL_RELATIVE


@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize("zero", [0, 100, 255])
def test_the_body(make_scan_2d: Make, relative_error: Error, step: int, zero: int) -> None:
    inputs = inputs_of(make_scan_2d(2, 7, 6, 9, 4, 2, step), zero)
    assert relative_error(run(inputs, step, library=False), expected(inputs, step)) < 5 * KERNEL_RELATIVE


@pytest.mark.parametrize("pair", [(64, 64), (127, 1), (-64, -64), (-127, -1), (127, -127)])
def test_the_body_at_the_bound(make_scan_2d: Make, relative_error: Error, pair: tuple[int, int]) -> None:
    """Neighbours of 128 together, on pixels of 255, are added exactly by every processor."""
    inputs = inputs_of(make_scan_2d(1, 6, 6, 10, 4, 2, 2), 0)
    inputs["x"] = np.full_like(inputs["x"], 100)  # all 255
    inputs["x_proj"][:, 0::2], inputs["x_proj"][:, 1::2] = pair
    inputs["x_proj_scale"] = np.full_like(inputs["x_proj_scale"], 1e-6)
    assert relative_error(run(inputs, 2, library=False), expected(inputs, 2)) < 5 * KERNEL_RELATIVE


@pytest.mark.skipif(not native.available(), reason="no native library")
def test_threads_change_nothing(make_scan_2d: Make) -> None:
    inputs = inputs_of(make_scan_2d(2, 13, 10, 37, 8, 3, 2), 90)
    assert torch.equal(run(inputs, 2, library=True, threads=1), run(inputs, 2, library=True, threads=2))


def test_the_largest_sums_do_not_overflow(isa: str, make_scan_2d: Make, relative_error: Error) -> None:
    """Every product as large as it can be: what adds pairs of them in 16 bits is wrong here."""
    inputs = inputs_of(make_scan_2d(1, 6, 6, 200, 4, 2, 2), 0)
    inputs["x"] = np.abs(inputs["x"]) + 100  # all 255
    inputs["x_proj"] = np.full_like(inputs["x_proj"], 127)
    inputs["x_proj_scale"] = np.full_like(inputs["x_proj_scale"], 1e-6)
    assert relative_error(run(inputs, 2, library=True), expected(inputs, 2)) < 2 * KERNEL_RELATIVE


def test_what_is_scanned_is_not_rounded(isa: str, make_scan_2d: Make, relative_error: Error) -> None:
    """Only the projection sees the integers: with steps so coarse that x would be lost, D x is still there."""
    inputs = inputs_of(make_scan_2d(1, 6, 6, 8, 4, 2, 2), 128, scale=1e3)
    y = run(inputs, 2, library=True)
    skipped = torch.from_numpy(inputs["x"])
    assert relative_error(y, expected(inputs, 2)) < 2 * KERNEL_RELATIVE
    assert torch.corrcoef(torch.stack([y.flatten(), skipped.flatten()]))[0, 1] > 0.9


@pytest.mark.skipif(not native.available(), reason="no native library")
@pytest.mark.parametrize("name", ["x_proj", "x_proj_scale", "dt_proj", "dt_bias", "A", "D"])
def test_a_wrong_shape_is_a_readable_error(make_scan_2d: Make, name: str) -> None:
    inputs = inputs_of(make_scan_2d(1, 4, 4, 8, 4, 2, 2), 0)
    wrong = inputs | {name: np.ascontiguousarray(inputs[name][..., :-1])}
    with pytest.raises(Exception, match=r"evm::QuantizedEfficientScan2D: \w+ has shape \(.*\), expected \("):
        run(wrong, 2, library=True)
