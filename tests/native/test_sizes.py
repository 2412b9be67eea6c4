"""Sizes from outside: a product that would overflow is refused, and never a result that was not written."""

import ctypes
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from onnx import helper

from evm_deploy.cuda.plan import MOST_STEPS, plan_efficient_scan_2d
from evm_deploy.errors import InputError, OptionError
from evm_deploy.graph.functions import write_body
from evm_deploy.models.efficientvmamba.config import ModelConfig
from evm_deploy.operators import OPERATORS
from evm_deploy.scan import native
from evm_deploy.scan.inputs import Scan2DInputs
from evm_deploy.tolerances import KERNEL_RELATIVE

Make = Callable[..., Any]
Inputs = dict[str, np.ndarray]
BAD_ARGUMENT = 1

needs_library = pytest.mark.skipif(not native.available(), reason="no native library")


def floats(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def run(operator: str, inputs: Inputs, **attributes: Any) -> np.ndarray:
    """By the library."""
    values = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), [None] * value.ndim)
        for name, value in inputs.items()
    ]
    node = helper.make_node(operator, list(inputs), ["y"], domain="evm", **attributes)
    kind = values[-1].type.tensor_type.elem_type  # float32 in all of them
    y = helper.make_tensor_value_info("y", kind, None)
    graph = helper.make_graph([node], "sizes", values, [y])
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("evm", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=9)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.register_custom_ops_library(str(native.native_library()))
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    result: np.ndarray = session.run(None, inputs)[0]
    return result


def scan_2d(K: int, x: tuple[int, ...] = (1, 4, 4, 3)) -> Inputs:
    D, R, N = x[-1], 2, 4
    shapes = {"x_proj": (K, D, R + 2 * N), "dt_proj": (K, R, D), "dt_bias": (K, D), "A": (K, N, D), "D": (K, D)}
    return {"x": floats(*x), **{name: floats(*shape) for name, shape in shapes.items()}}


@needs_library
@pytest.mark.parametrize("step", [2**32, 3 * 2**31, 2**63 - 1, MOST_STEPS + 1, 0, -1])
def test_a_step_whose_square_overflows(step: int) -> None:
    """2^32 squared is 0 in 64 bits: weights of no group would fit, and nothing would write the output."""
    inputs = scan_2d(step * step % 2**64 if step * step % 2**64 < 5000 else 0)
    with pytest.raises(Exception, match=r"step is -?\d+, expected 1 to 64"):
        run("EfficientScan2D", inputs, step=step)


LARGE = (2**30, 2**29)  # together more than 2^58
EMPTY = floats(0)
NORM = {"scale": floats(1), "bias": floats(1)}
MANY = {
    "EfficientScan2D": (scan_2d(4, (0, *LARGE, 1)), {"step": 2}),
    "SelectiveScan": (
        {name: floats(LARGE[0], 1, LARGE[1], 0) for name in ("u", "delta")}
        | {"A": floats(1, 0, 0)}
        | {name: floats(LARGE[0], 1, LARGE[1], 0) for name in ("B", "C")},
        {"delta_softplus": 1},
    ),
    "GatedNorm": ({"x": floats(*LARGE, 0), "z": floats(*LARGE, 0), "scale": EMPTY, "bias": EMPTY}, {"epsilon": 1e-5}),
    "MeanOfNorm": ({"x": floats(0, *LARGE, 1), **NORM}, {"epsilon": 1e-5}),
    "Lookup": ({"x": np.ones((*LARGE, 0), np.uint8), "table": floats(256)}, {}),
}


@needs_library
@pytest.mark.parametrize("operator", MANY)
def test_shapes_without_numbers_whose_product_overflows(operator: str) -> None:
    inputs, attributes = MANY[operator]
    with pytest.raises(Exception, match=r"more than 2\^58 numbers"):
        run(operator, inputs, **attributes)


@needs_library
@pytest.mark.parametrize("step", [1, 2, MOST_STEPS])
def test_the_largest_step(make_scan_2d: Make, relative_error: Callable[..., float], step: int) -> None:
    """Most of its groups hold padding alone."""
    case = make_scan_2d(1, 5, 4, 3, 4, 2, step)
    inputs = {name: getattr(case, name).numpy() for name in ("x", "x_proj", "dt_proj", "dt_bias", "A", "D")}
    y = torch.from_numpy(run("EfficientScan2D", inputs, step=step))
    assert relative_error(y, case.expected()) < KERNEL_RELATIVE


SIZES = ("batch", "height", "width", "channels", "states", "rank", "step")
LINE_SIZES = ("batch", "groups", "length", "channels", "states")


def call(function: str, numbers: dict[str, int], pointers: int, threads: int = 1) -> int:
    """The C interface with these sizes, and pointers to next to nothing."""
    place = (ctypes.c_float * 64)()
    arguments = [*map(ctypes.c_int64, numbers.values()), ctypes.c_int64(threads)]
    fields = [(f"n{i}", ctypes.c_int64) for i in range(len(arguments))]
    fields += [(f"p{i}", ctypes.c_void_p) for i in range(pointers)]
    structure = type("Arguments", (ctypes.Structure,), {"_fields_": fields})
    made = structure(*arguments, *[ctypes.addressof(place)] * pointers)
    code: int = getattr(ctypes.CDLL(str(native.native_library())), function)(ctypes.byref(made))
    return code


@needs_library
@pytest.mark.parametrize("name", SIZES)
def test_sizes_of_the_c_interface(name: str) -> None:
    for large in (2**32, 2**61, 2**63 - 1):
        sizes = dict.fromkeys(SIZES, 3) | {"width": 2**33, name: large}
        assert call("evm_efficient_scan_2d_f32", sizes | {"channels": 2**26}, 7) == BAD_ARGUMENT
        for none in {"batch", "height", "channels"} - {name}:  # nothing to scan: a refusal is all that may happen
            assert call("evm_efficient_scan_2d_f32", sizes | {none: 0}, 7) in (0, BAD_ARGUMENT)


@needs_library
@pytest.mark.parametrize("name", LINE_SIZES)
def test_sizes_of_the_c_interface_of_the_other_scan(name: str) -> None:
    for large in (2**32, 2**62, 2**63 - 1):
        sizes = dict.fromkeys(LINE_SIZES, 3) | {"length": 2**33, name: large} | {"delta_softplus": 1}
        assert call("evm_selective_scan_f32", sizes | {"channels": 2**26}, 8) == BAD_ARGUMENT


ORDERED_SIZES = ("batch", "tokens", "groups", "length", "channels", "states", "rank", "summed", "results")
CONV_SIZES = ("batch", "tokens", "groups", "length", "channels", "taps")


@needs_library
@pytest.mark.parametrize("large", [2**61, 2**62, 2**63 - 1, -1])
def test_sizes_of_the_c_interface_of_tokens_in_an_order(large: int) -> None:
    for function, names, pointers in (
        ("evm_ordered_scan_f32", ORDERED_SIZES, 9),
        ("evm_causal_conv_f32", CONV_SIZES, 5),
    ):
        for name in names:
            assert call(function, dict.fromkeys(names, 3) | {name: large}, pointers) == BAD_ARGUMENT, (function, name)


@needs_library
def test_more_threads_than_there_can_be() -> None:
    sizes = dict.fromkeys(LINE_SIZES, 1) | {"delta_softplus": 1}
    assert call("evm_selective_scan_f32", sizes, 8, threads=2**62) == 0


@needs_library
def test_integer_sums_of_too_many_channels() -> None:
    D = 2**16 + 1
    inputs = scan_2d(1, (1, 1, 1, D))
    integers = {"x_scale": floats(), "x_zero_point": np.zeros((), np.uint8)}
    integers |= {"x_proj": np.ones((1, D, 10), np.int8), "x_proj_scale": floats(1, 10)}
    given = {name: (inputs | integers)[name] for name in OPERATORS["QuantizedEfficientScan2D"].inputs}
    with pytest.raises(Exception, match="more than 65536 channels"):
        run("QuantizedEfficientScan2D", given, step=1)


@pytest.mark.parametrize("step", [0, MOST_STEPS + 1, 2**32])
def test_python_refuses_such_a_step(make_scan_2d: Make, step: int) -> None:
    case = replace(make_scan_2d(1, 4, 4, 3, 4, 2, 2), step=step)
    inputs = Scan2DInputs(*case.arguments())
    with pytest.raises(ValueError, match="step is"):
        inputs.shapes()
    with pytest.raises(ValueError, match="step is"):
        inputs.through(lambda scan: scan.u)
    with pytest.raises(OptionError, match="step is"):
        plan_efficient_scan_2d(1, 4, 4, 3, step * step, 4, 2, step, "float32", 16)
    for operator in ("EfficientScan2D", "QuantizedEfficientScan2D"):
        with pytest.raises(InputError, match="step is"):
            write_body(OPERATORS[operator], 18, step=step)
    with pytest.raises(OptionError, match="step is"):
        ModelConfig(dims=(8,), depths=(1,), blocks=("evss",), step=step)
