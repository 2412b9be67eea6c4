"""The native kernel that scans tokens in any order, by the C interface and in onnxruntime."""

from collections.abc import Callable

import numpy as np
import onnxruntime as ort
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from evm_deploy.scan import native
from evm_deploy.scan.kernel_inputs import INDICES, OrderedScanInputs
from evm_deploy.scan.orders import make_cross_order, make_two_way_order, number_tokens
from evm_deploy.tolerances import FP16_IO_RELATIVE, KERNEL_RELATIVE

pytestmark = [
    pytest.mark.processor,
    pytest.mark.skipif(not native.available(), reason="no native library"),
]

Make = Callable[..., OrderedScanInputs]
Error = Callable[..., float]
TYPED = ("x", "x_proj", "dt_proj")
Arrays = dict[str, np.ndarray]


def to_arrays(inputs: OrderedScanInputs, half: bool = False) -> Arrays:
    arrays = {name: tensor.numpy() for name, tensor in inputs._asdict().items()}
    return arrays | ({name: arrays[name].astype(np.float16) for name in TYPED} if half else {})


def run(arrays: Arrays, threads: int = 1) -> torch.Tensor:
    """y by one node in onnxruntime."""
    kinds = {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in arrays.items()}
    values = [helper.make_tensor_value_info(name, kinds[name], [None] * arrays[name].ndim) for name in arrays]
    node = helper.make_node("OrderedScan", list(arrays), ["y"], domain="evm")
    graph = helper.make_graph([node], "one", values, [helper.make_tensor_value_info("y", kinds["x"], None)])
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("evm", 1)]
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 4
    options.register_custom_ops_library(str(native.native_library()))
    model = helper.make_model(graph, opset_imports=imports, ir_version=9).SerializeToString()
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, arrays)[0])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batch=st.integers(1, 2),
    T=st.integers(1, 90),
    K=st.integers(1, 4),
    L=st.integers(1, 90),
    D=st.sampled_from([1, 7, 8, 15, 16, 17, 48, 49, 100]),
    N=st.sampled_from([1, 2, 8, 9, 17]),
    R=st.integers(1, 7),
    M=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_any_order(isa: str, make_ordered_scan: Make, ordered_scan_error: Error, seed: int, **sizes: int) -> None:
    inputs = make_ordered_scan(*sizes.values(), seed=seed)
    assert ordered_scan_error(native.run(inputs), inputs) < KERNEL_RELATIVE


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("half", "tolerance"), [(False, KERNEL_RELATIVE), (True, FP16_IO_RELATIVE)])
@pytest.mark.parametrize(
    "sizes", [(2, 70, 4, 70, 37, 1, 6, 4), (2, 130, 2, 65, 50, 16, 3, 2)], ids=["cross", "two-way"]
)
def test_the_orders_of_networks(
    isa: str,
    make_ordered_scan: Make,
    ordered_scan_error: Error,
    sizes: tuple[int, ...],
    half: bool,
    tolerance: float,
    threads: int,
) -> None:
    inputs = make_ordered_scan(*sizes)
    order, back = make_cross_order(7, 10) if sizes[2] == 4 else (number_tokens(2, 65), make_two_way_order(65)[1])
    inputs = inputs._replace(order=order, back=back)
    arrays = to_arrays(inputs, half)
    y = run(arrays, threads)
    assert y.dtype == (torch.float16 if half else torch.float32)
    rounded = inputs._replace(**{name: torch.from_numpy(arrays[name]).float() for name in TYPED})
    assert ordered_scan_error(y, rounded) < tolerance


def test_threads_do_not_change_the_result(make_ordered_scan: Make) -> None:
    arrays = to_arrays(make_ordered_scan(3, 60, 4, 60, 150, 4, 3, 4))
    assert torch.equal(run(arrays, 1), run(arrays, 3))


@pytest.mark.parametrize("name", ["x_proj", "dt_proj", "dt_bias", "A", "D", "order"])
def test_a_wrong_shape_is_a_readable_error(make_ordered_scan: Make, name: str) -> None:
    arrays = to_arrays(make_ordered_scan(1, 20, 2, 20, 6, 3, 2, 2))
    wrong = arrays[name][..., :-1] if name != "order" else arrays[name][:-1]
    with pytest.raises(Exception, match=r"evm::OrderedScan: \w+ has shape \(.*\), expected \("):
        run(arrays | {name: np.ascontiguousarray(wrong)})


@pytest.mark.parametrize("place", [-1, 20, 2**62, -(2**63)])
def test_a_token_that_is_not_there(make_ordered_scan: Make, place: int) -> None:
    inputs = make_ordered_scan(1, 20, 2, 10, 6, 3, 2, 2)
    order, back = inputs.order.clone(), inputs.back.clone()
    order[1, 3] = back[1, 3] = place
    with pytest.raises(Exception, match="names a token that is not there"):
        run(to_arrays(inputs._replace(order=order)))
    with pytest.raises(Exception, match="use a token that is not there"):
        run(to_arrays(inputs._replace(back=back)))
    for wrong in (inputs._replace(order=order), inputs._replace(back=back)):
        with pytest.raises(ValueError, match="refused"):
            native.run(wrong)


def test_a_result_in_two_sums(make_ordered_scan: Make) -> None:
    inputs = make_ordered_scan(1, 20, 2, 10, 6, 3, 2, 2)
    back = inputs.back.clone()
    back[0, 0] = back[1, 1]
    with pytest.raises(Exception, match="or one twice"):
        run(to_arrays(inputs._replace(back=back)))


def test_nothing_to_scan_or_to_add(make_ordered_scan: Make) -> None:
    inputs = make_ordered_scan(2, 20, 2, 10, 6, 3, 2, 2)
    assert run(to_arrays(inputs._replace(x=inputs.x[:0]))).shape == (0, 10, 6)
    nothing = inputs._replace(order=inputs.order[:, :0], back=inputs.back[:0])
    assert torch.equal(run(to_arrays(nothing)), torch.zeros(2, 10, 6))


def test_integers_have_to_be_int64(make_ordered_scan: Make) -> None:
    inputs = make_ordered_scan(1, 20, 2, 10, 6, 3, 2, 2)
    for name in INDICES:
        with pytest.raises(ValueError, match=f"{name} is torch.int32 on cpu, the native kernel takes int64"):
            native.run(inputs._replace(**{name: getattr(inputs, name).int()}))
