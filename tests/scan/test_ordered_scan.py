"""The scan of tokens in any order: its torch forms and its body against the reference, and the orders themselves."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from evm_deploy import scan
from evm_deploy.graph import functions
from evm_deploy.operators.operator import STATE
from evm_deploy.operators.ordered_scan import OPERATOR
from evm_deploy.scan import chunked, reference, static
from evm_deploy.scan.kernel_inputs import INDICES, OrderedScanInputs
from evm_deploy.scan.orders import make_cross_order, make_two_way_order, number_tokens
from evm_deploy.tolerances import FP16_IO_RELATIVE, KERNEL_RELATIVE

Make = Callable[..., OrderedScanInputs]
Error = Callable[..., float]
HALVES = {name for name in OPERATOR.inputs if name not in INDICES and OPERATOR.inputs[name] != STATE}


def run_operator(inputs: OrderedScanInputs) -> torch.Tensor:
    """By the torch operator, as a network calls it."""
    y: torch.Tensor = scan.ordered_scan(*inputs)
    return y


def run_body(inputs: OrderedScanInputs, opset: int = 20) -> torch.Tensor:
    """By a stock runtime, which knows nothing but the body."""
    arrays = {name: tensor.numpy() for name, tensor in inputs._asdict().items()}
    values = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), [None] * array.ndim)
        for name, array in arrays.items()
    ]
    node = helper.make_node("OrderedScan", list(arrays), ["y"], domain="evm")
    y = helper.make_tensor_value_info("y", values[0].type.tensor_type.elem_type, [None] * 3)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("evm", 1)]
    model = helper.make_model(helper.make_graph([node], "one", values, [y]), opset_imports=imports, ir_version=9)
    model.functions.extend(functions.bodies(model))
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, arrays)[0])


@settings(max_examples=25)
@given(
    batch=st.integers(1, 2),
    T=st.integers(1, 40),
    K=st.integers(1, 4),
    L=st.integers(1, 40),
    D=st.integers(1, 9),
    N=st.sampled_from([1, 3, 16]),
    R=st.integers(1, 3),
    M=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_forms_agree_with_the_reference(
    make_ordered_scan: Make, ordered_scan_error: Error, seed: int, **sizes: int
) -> None:
    inputs = make_ordered_scan(*sizes.values(), seed=seed)
    for form in (chunked.run, static.run, run_operator, run_body):
        assert ordered_scan_error(form(inputs), inputs) <= 5 * KERNEL_RELATIVE, form


@pytest.mark.parametrize("opset", [18, 22])
def test_the_body_in_every_opset(make_ordered_scan: Make, ordered_scan_error: Error, opset: int) -> None:
    inputs = make_ordered_scan(2, 30, 3, 30, 5, 2, 2, 3)
    assert ordered_scan_error(run_body(inputs, opset), inputs) <= 5 * KERNEL_RELATIVE


def test_float16_in_and_out_with_a_float32_recurrence(make_ordered_scan: Make, ordered_scan_error: Error) -> None:
    inputs = make_ordered_scan(1, 30, 2, 30, 8, 4, 2, 2)
    half = inputs._replace(**{name: getattr(inputs, name).half() for name in HALVES})
    rounded = inputs._replace(**{name: getattr(half, name).float() for name in HALVES})
    for form in (run_operator, run_body):
        y = form(half)
        assert y.dtype == torch.float16
        assert ordered_scan_error(y, rounded) <= FP16_IO_RELATIVE


def test_gradients_are_those_of_the_reference(make_ordered_scan: Make) -> None:
    inputs = make_ordered_scan(2, 12, 2, 15, 3, 4, 2, 2)
    floats = {name: t.double().requires_grad_() for name, t in inputs._asdict().items() if name not in INDICES}
    inputs = inputs._replace(**floats)
    expected = torch.autograd.grad(reference.run(inputs).square().sum(), list(floats.values()))
    torch.testing.assert_close(
        torch.autograd.grad(run_operator(inputs).square().sum(), list(floats.values())), expected
    )


@pytest.mark.slow
def test_the_operator_is_well_formed(make_ordered_scan: Make) -> None:
    inputs = make_ordered_scan(1, 7, 2, 5, 3, 2, 1, 2)
    arguments: list[Any] = [t if name in INDICES else t.requires_grad_() for name, t in inputs._asdict().items()]
    torch.library.opcheck(torch.ops.evm.ordered_scan.default, arguments)


@settings(max_examples=20)
@given(H=st.integers(1, 7), W=st.integers(1, 7))
def test_the_cross_order_is_that_of_the_map(H: int, W: int) -> None:
    order, back = make_cross_order(H, W)
    tokens = np.arange(H * W).reshape(H, W)
    rows, columns = tokens.ravel(), tokens.T.ravel()
    assert order.tolist() == [rows.tolist(), columns.tolist(), rows[::-1].tolist(), columns[::-1].tolist()]
    assert order.flatten()[back].tolist() == [list(range(H * W))] * 4  # a result goes to the token it came from


def test_the_two_way_order_scans_a_sequence_forwards_and_backwards() -> None:
    order, back = make_two_way_order(3)
    assert order.tolist() == [[0, 1, 2], [2, 1, 0]]
    assert order.flatten()[back].tolist() == [[0, 1, 2]] * 2
    assert number_tokens(2, 3).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_an_order_of_one_direction_is_not_that_of_another(make_ordered_scan: Make, ordered_scan_error: Error) -> None:
    inputs = make_ordered_scan(1, 30, 2, 30, 5, 2, 2, 2)
    other = inputs._replace(order=inputs.order.flip(1))
    assert ordered_scan_error(run_operator(other), inputs) > 100 * KERNEL_RELATIVE
