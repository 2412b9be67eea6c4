"""The operator library inside the installed onnxruntime, on graphs of one or two nodes."""

import gc
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor

from evm_deploy.scan import native
from evm_deploy.scan.inputs import ScanInputs
from evm_deploy.tolerances import FP16_IO_RELATIVE, KERNEL_RELATIVE

pytestmark = [
    pytest.mark.processor,
    pytest.mark.skipif(not native.available(), reason="no native library"),
]

Make = Callable[..., Any]
Error = Callable[[Tensor, Tensor], float]
# The inputs that have the type of x or u; the others are always float32.
TYPED = {"u", "delta", "B", "C", "x", "x_proj", "dt_proj"}


def session(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, np.ndarray],
    dims: dict[str, list[int | str | None]] | None = None,
    threads: int = 1,
) -> ort.InferenceSession:
    """A session of a graph with these inputs, their dimensions unknown except those in `dims`."""
    dims = dims or {}
    graph = helper.make_graph(
        nodes,
        "test",
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(value.dtype), dims.get(name, [None] * value.ndim)
            )
            for name, value in inputs.items()
        ],
        [
            helper.make_tensor_value_info(node.output[0], _type_of(node, inputs), dims.get(node.output[0]))
            for node in nodes
        ],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("evm", 1)], ir_version=9
    )
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    options.register_custom_ops_library(str(native.native_library()))
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _type_of(node: onnx.NodeProto, inputs: dict[str, np.ndarray]) -> int:
    value = inputs.get(node.input[0])
    return TensorProto.FLOAT if value is None else helper.np_dtype_to_tensor_dtype(value.dtype)


def tensors(case: Any, half: bool = False) -> dict[str, np.ndarray]:
    given = {field.name: getattr(case, field.name) for field in fields(case)}
    return {
        name: value.numpy().astype(np.float16 if half and name in TYPED else np.float32)
        for name, value in given.items()
        if isinstance(value, Tensor)
    }


def rounded(case: Any) -> Any:
    """The case after its float16 tensors were rounded."""
    typed = {f.name: getattr(case, f.name) for f in fields(case) if f.name in TYPED}
    return replace(case, **{name: value.half().float() for name, value in typed.items()})


def scan_node(inputs: list[str], output: str = "y", softplus: bool = True) -> onnx.NodeProto:
    return helper.make_node("SelectiveScan", inputs, [output], domain="evm", delta_softplus=int(softplus))


def scan_2d_node(step: int = 2) -> onnx.NodeProto:
    inputs = ["x", "x_proj", "dt_proj", "dt_bias", "A", "D"]
    return helper.make_node("EfficientScan2D", inputs, ["y"], domain="evm", step=step)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("half", "tolerance"), [(False, KERNEL_RELATIVE), (True, FP16_IO_RELATIVE)])
def test_selective_scan(
    isa: str, make_scan: Make, relative_error: Error, half: bool, tolerance: float, threads: int
) -> None:
    case = make_scan(2, 3, 50, 37, 16)
    values = tensors(case, half)
    y = session([scan_node(list(values))], values, threads=threads).run(None, values)[0]
    assert y.dtype == values["u"].dtype
    expected = (rounded(case) if half else case).expected()
    assert relative_error(torch.from_numpy(y), expected) < tolerance


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("half", "tolerance"), [(False, KERNEL_RELATIVE), (True, FP16_IO_RELATIVE)])
@pytest.mark.parametrize("step", [1, 2, 3])
def test_efficient_scan_2d(
    isa: str, make_scan_2d: Make, relative_error: Error, step: int, half: bool, tolerance: float, threads: int
) -> None:
    case = make_scan_2d(2, 13, 10, 37, 8, 3, step)
    values = tensors(case, half)
    y = session([scan_2d_node(step)], values, threads=threads).run(None, values)[0]
    assert y.dtype == values["x"].dtype
    expected = (rounded(case) if half else case).expected()
    assert relative_error(torch.from_numpy(y), expected) < tolerance


@pytest.mark.parametrize("D", [True, False])
@pytest.mark.parametrize("delta_bias", [True, False])
def test_optional_inputs(make_scan: Make, relative_error: Error, D: bool, delta_bias: bool) -> None:
    case = make_scan(1, 2, 20, 18, 4)
    case = replace(case, D=case.D if D else None, delta_bias=case.delta_bias if delta_bias else None)
    values = tensors(case)
    names = ["u", "delta", "A", "B", "C", "D" if D else "", "delta_bias" if delta_bias else ""]
    for inputs in (names, names[: len(names) - names[::-1].index(next(filter(None, names[::-1])))]):
        y = session([scan_node(inputs)], values).run(None, values)[0]
        assert relative_error(torch.from_numpy(y), case.expected()) < KERNEL_RELATIVE


def test_float16_is_the_float32_result_rounded(isa: str, make_scan: Make) -> None:
    """To the nearest, denormal and infinite results among them."""
    case = rounded(make_scan(1, 2, 50, 37, 16))
    wide = torch.logspace(-8, 4.6, 37)  # float16 ends at 6e-8 and at 65504
    case = replace(case, D=case.D * wide, C=case.C * 0)
    values = tensors(case, half=True)
    y = session([scan_node(list(values))], values).run(None, values)[0]
    assert torch.equal(torch.from_numpy(y), native.run(ScanInputs(*case.arguments())).half())


def test_both_types_in_one_session(make_scan: Make, relative_error: Error) -> None:
    case = make_scan(1, 2, 20, 18, 4)
    full, half = tensors(case), {f"{name}_half": value for name, value in tensors(case, half=True).items()}
    nodes = [scan_node(list(full)), scan_node(list(half), "y_half")]
    y, y_half = session(nodes, {**full, **half}).run(None, {**full, **half})
    assert (y.dtype, y_half.dtype) == (np.float32, np.float16)
    assert relative_error(torch.from_numpy(y), case.expected()) < KERNEL_RELATIVE
    assert relative_error(torch.from_numpy(y_half), rounded(case).expected()) < FP16_IO_RELATIVE


def test_two_sessions_share_the_library(make_scan_2d: Make) -> None:
    values = tensors(make_scan_2d(1, 8, 8, 16, 4, 2, 2))
    first, second = session([scan_2d_node()], values), session([scan_2d_node()], values)
    before = second.run(None, values)[0]
    del first
    assert np.array_equal(second.run(None, values)[0], before)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_end_of_a_session_does_not_unload_the_library(
    make_scan_2d: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Path(shutil.copy(native.native_library(), tmp_path / "another.so"))  # that no other test has loaded
    monkeypatch.setenv(native.LIBRARY_VARIABLE, str(other))
    values = tensors(make_scan_2d(1, 8, 8, 16, 4, 2, 2))
    session([scan_2d_node()], values).run(None, values)
    gc.collect()
    assert str(other) in Path("/proc/self/maps").read_text()


def test_the_shape_of_the_output_is_known(make_scan_2d: Make) -> None:
    """Where it is not, onnxruntime plans no memory and optimises less behind the node."""
    values = tensors(make_scan_2d(1, 8, 8, 16, 4, 2, 2))
    dims: dict[str, list[int | str | None]] = {"x": ["batch", 8, "width", 16]}
    assert session([scan_2d_node()], values, dims).get_outputs()[0].shape == ["batch", 8, "width", 16]
    unnamed = session([scan_2d_node()], values, {"x": [1, None, 8, 16]}).get_outputs()[0].shape
    assert unnamed is None or -1 not in unnamed


def test_the_kernel_wins_over_a_function_of_the_same_name(make_scan_2d: Make, relative_error: Error) -> None:
    case = make_scan_2d(1, 8, 8, 16, 4, 2, 2)
    values = tensors(case)
    node = scan_2d_node()
    function = helper.make_function(
        "evm",
        "EfficientScan2D",
        list(node.input),
        ["y"],
        [helper.make_node("Neg", ["x"], ["y"])],
        [helper.make_opsetid("", 18)],
        attributes=["step"],
    )
    graph = helper.make_graph(
        [node],
        "test",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape) for name, value in values.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, values["x"].shape)],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("evm", 1)],
        functions=[function],
        ir_version=9,
    ).SerializeToString()
    options = ort.SessionOptions()
    portable = ort.InferenceSession(model, options).run(None, values)[0]
    assert np.array_equal(portable, -values["x"])
    options.register_custom_ops_library(str(native.native_library()))
    y = ort.InferenceSession(model, options).run(None, values)[0]
    assert relative_error(torch.from_numpy(y), case.expected()) < KERNEL_RELATIVE


@pytest.mark.parametrize("name", ["delta", "A", "B", "C", "D", "delta_bias"])
def test_a_wrong_shape_is_a_readable_error(make_scan: Make, name: str) -> None:
    values = tensors(make_scan(1, 2, 20, 18, 4))
    made = session([scan_node(list(values))], values)
    wrong = {**values, name: np.ascontiguousarray(values[name][..., :-1])}
    with pytest.raises(Exception, match=r"evm::SelectiveScan: \w+ has shape \(.*\), expected \("):
        made.run(None, wrong)
    assert np.isfinite(made.run(None, values)[0]).all()


@pytest.mark.parametrize("name", ["x", "x_proj", "dt_proj", "dt_bias", "A", "D"])
def test_a_wrong_shape_is_a_readable_error_2d(make_scan_2d: Make, name: str) -> None:
    values = tensors(make_scan_2d(1, 8, 8, 16, 4, 2, 2))
    made = session([scan_2d_node()], values)
    wrong = {**values, name: np.ascontiguousarray(values[name][..., :-1])}
    with pytest.raises(Exception, match=r"evm::EfficientScan2D: \w+ has shape \(.*\), expected \("):
        made.run(None, wrong)
    with pytest.raises(Exception, match=r"x has shape \(8, 8, 16\), expected \(B, H, W, D\)"):
        session([scan_2d_node()], {**values, "x": values["x"][0]}).run(None, {**values, "x": values["x"][0]})


def test_a_wrong_step_is_a_readable_error(make_scan_2d: Make) -> None:
    values = tensors(make_scan_2d(1, 8, 8, 16, 4, 2, 2))
    with pytest.raises(Exception, match="step is 0, expected 1 to 64"):
        session([scan_2d_node(step=0)], values)
    with pytest.raises(Exception, match=r"x_proj has shape \(4, 16, 10\), expected \(9, 16, 10\)"):
        session([scan_2d_node(step=3)], values).run(None, values)


def test_an_empty_batch(make_scan_2d: Make) -> None:
    values = tensors(make_scan_2d(1, 8, 8, 16, 4, 2, 2))
    values["x"] = values["x"][:0]
    assert session([scan_2d_node()], values).run(None, values)[0].shape == (0, 8, 8, 16)


OLD_RUNTIME = """
import ctypes, sys
Create = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p)
message = []
@Create
def create_status(code, text):
    message.append(text.decode())
    return 1
@ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint32)
def get_api(version):
    return ctypes.addressof(table) if version <= 11 else None
@ctypes.CFUNCTYPE(ctypes.c_char_p)
def get_version():
    return b"1.11.0"
table = (ctypes.c_void_p * 1)(ctypes.cast(create_status, ctypes.c_void_p))
base = (ctypes.c_void_p * 2)(ctypes.cast(get_api, ctypes.c_void_p), ctypes.cast(get_version, ctypes.c_void_p))
library = ctypes.CDLL(sys.argv[1])
library.RegisterCustomOps.restype = ctypes.c_void_p
library.RegisterCustomOps.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
assert library.RegisterCustomOps(None, ctypes.addressof(base)) == 1
print(message[0])
"""


def test_a_runtime_that_is_too_old_is_told_so() -> None:
    run = subprocess.run(
        [sys.executable, "-c", OLD_RUNTIME, native.native_library()], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "the evm operators need onnxruntime 1.17 or newer, this is 1.11.0"
