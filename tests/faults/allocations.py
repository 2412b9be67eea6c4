"""Runs our operators in onnxruntime, and the C interface, each time with another of their allocations failing.

`python allocations.py`, with the shim loaded. Prints a JSON object: what each run of each case ended with ("" where it
gave the right numbers).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnx import helper

from evm_deploy.scan import native
from evm_deploy.scan.inputs import Scan2DInputs

sys.path.insert(0, str(Path(__file__).parent))
from sweep import Faults

Inputs = dict[str, np.ndarray]


def ones(kind: type[np.generic], **shapes: tuple[int, ...]) -> Inputs:
    """Arrays of ones, of these shapes."""
    return {name: np.ones(shape, kind) for name, shape in shapes.items()}


STATE = ones(np.float32, dt_bias=(4, 5), A=(4, 2, 5), D=(4, 5))
MAP = {"x": (2, 3, 4, 5), "x_proj": (4, 5, 5), "dt_proj": (4, 1, 5)}
LINE = {"u": (1, 4, 6, 5), "delta": (1, 4, 6, 5)}
TOKENS = {"B": (1, 4, 6, 2), "C": (1, 4, 6, 2)}
NORM = {"x": (2, 3, 4, 5), "z": (2, 3, 4, 5), "scale": (5,), "bias": (5,)}
INTEGERS = ones(np.float32, x_scale=(), x_proj_scale=(4, 5), dt_proj=(4, 1, 5)) | STATE
QUANTIZED = {
    "x": np.ones(MAP["x"], np.float32),
    "x_scale": INTEGERS["x_scale"],
    "x_zero_point": np.ones((), np.uint8),
    "x_proj": np.ones(MAP["x_proj"], np.int8),
    **{name: INTEGERS[name] for name in ("x_proj_scale", "dt_proj", "dt_bias", "A", "D")},
}
ORDERED = ones(np.float32, x=(2, 6, 5), x_proj=(4, 5, 5), dt_proj=(4, 1, 5)) | STATE
ORDERED |= {"order": np.arange(24).reshape(4, 6) % 6, "back": np.arange(24).reshape(4, 6)}
CONVOLVED = ones(np.float16, x=(2, 6, 5), weight=(4, 2, 5), bias=(4, 5)) | {"order": ORDERED["order"]}
CASES: dict[str, tuple[str, Inputs, dict[str, Any]]] = {
    "scan of a map": ("EfficientScan2D", ones(np.float32, **MAP) | STATE, {"step": 2}),
    "scan of a map, float16": ("EfficientScan2D", ones(np.float16, **MAP) | STATE, {"step": 2}),
    "ordered scan": ("OrderedScan", ORDERED, {}),
    "causal convolution, float16": ("CausalConv", CONVOLVED, {"taps": 2}),
    "wrong order": ("OrderedScan", ORDERED | {"order": np.full((4, 6), 6)}, {}),
    "wrong shape": ("EfficientScan2D", ones(np.float32, **MAP) | STATE | ones(np.float32, D=(4, 6)), {"step": 2}),
    "wrong step": ("EfficientScan2D", ones(np.float32, **MAP) | STATE, {"step": 0}),
    "scan on integers": ("QuantizedEfficientScan2D", QUANTIZED, {"step": 2}),
    "scan, float16": (
        "SelectiveScan",
        ones(np.float16, **LINE) | {"A": STATE["A"]} | ones(np.float16, **TOKENS),
        {"delta_softplus": 1},
    ),
    "norm, float16": ("GatedNorm", ones(np.float16, **NORM), {"epsilon": 1e-5}),
    "mean of norm": (
        "MeanOfNorm",
        ones(np.float32, **{name: shape for name, shape in NORM.items() if name != "z"}),
        {"epsilon": 1e-5},
    ),
    "lookup": ("Lookup", {"x": np.ones((3, 4), np.uint8)} | ones(np.float32, table=(256,)), {}),
}


def run(operator: str, inputs: Inputs, attributes: dict[str, Any]) -> np.ndarray:
    """y, by a new session with two threads."""
    values = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in inputs.items()
    ]
    row = values[-1] if operator == "Lookup" else values[0]
    node = helper.make_node(operator, list(inputs), ["y"], domain="evm", **attributes)
    y = helper.make_tensor_value_info("y", row.type.tensor_type.elem_type, None)
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("evm", 1)]
    graph = helper.make_graph([node], "one", values, [y])
    model = helper.make_model(graph, opset_imports=imports, ir_version=9).SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 2
    options.register_custom_ops_library(str(native.native_library()))
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    result: np.ndarray = session.run(None, inputs)[0]
    return result


def run_in_torch() -> np.ndarray:
    """y, by the C interface, on three threads."""
    torch.set_num_threads(3)
    tensors = [torch.ones(MAP[name]) for name in ("x", "x_proj", "dt_proj")]
    tensors += [torch.ones(STATE[name].shape) for name in ("dt_bias", "A", "D")]
    return native.run(Scan2DInputs(*tensors, step=2)).numpy()


def fail_each(faults: Faults, compute: Callable[[], np.ndarray]) -> Iterator[str]:
    """What each run ended with, the last of which had all the memory that it wanted."""
    try:
        expected = compute()
    except Exception:  # the case is a refusal
        expected = None
    at, more = 0, True
    while more:
        faults.arm("memory", at)
        try:
            y = compute()
            said = "" if expected is not None and np.array_equal(y, expected) else "other numbers"
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
        more = faults.disarm()["memory"] > at
        at += 1
        yield said


def main() -> None:
    """Prints what came of every case."""
    faults = Faults(Path("/nowhere"))
    native.isa()  # loads the library for good
    faults.watch(native.native_library())
    found = {name: list(fail_each(faults, lambda case=case: run(*case))) for name, case in CASES.items()}  # type: ignore[misc]
    print(json.dumps(found | {"c": list(fail_each(faults, run_in_torch))}))


if __name__ == "__main__":
    main()
