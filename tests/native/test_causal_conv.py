"""Mamba's causal convolution: its torch form against a loop, its body and its kernels against the torch form."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper
from torch import Tensor

from evm_deploy import scan
from evm_deploy.graph import functions
from evm_deploy.scan import native, reference
from evm_deploy.scan.kernel_inputs import CausalConvInputs
from evm_deploy.tolerances import FP16_IO_RELATIVE, KERNEL_RELATIVE

pytestmark = pytest.mark.processor

Make = Callable[..., CausalConvInputs]
Error = Callable[..., float]
TERM = 0.1  # a term of the sum for one token; with few tokens all sums may be far less
needs_library = pytest.mark.skipif(not native.available(), reason="no native library")
SIZES = {
    "batch": st.integers(1, 2),
    "T": st.integers(1, 90),
    "K": st.integers(1, 3),
    "L": st.integers(1, 90),
    "D": st.sampled_from([1, 7, 8, 16, 17, 50]),
    "taps": st.integers(1, 5),
    "seed": st.integers(0, 99),
}


def convolve_in_a_loop(inputs: CausalConvInputs) -> Tensor:
    """One token and one tap after the other, in float64."""
    x, weight, bias = inputs.x.double(), inputs.weight.double(), inputs.bias.double()
    y = bias[None, :, None, :].repeat(x.shape[0], 1, inputs.order.shape[1], 1)
    for k, order in enumerate(inputs.order.tolist()):
        for i in range(len(order)):
            for j in range(inputs.taps):
                if i - inputs.taps + 1 + j >= 0:
                    y[:, k, i] += weight[k, j] * x[:, order[i - inputs.taps + 1 + j]]
    return F.silu(y)


def run(inputs: CausalConvInputs, *, library: bool, threads: int = 1, **wrong: Any) -> Tensor:
    """y by one node in onnxruntime: by our library, or by the body."""
    arrays = {name: tensor.numpy() for name, tensor in inputs._asdict().items() if isinstance(tensor, Tensor)} | wrong
    kinds = {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in arrays.items()}
    values = [helper.make_tensor_value_info(name, kinds[name], [None] * arrays[name].ndim) for name in arrays]
    node = helper.make_node("CausalConv", list(arrays), ["y"], domain="evm", taps=inputs.taps)
    graph = helper.make_graph([node], "one", values, [helper.make_tensor_value_info("y", kinds["x"], [None] * 4)])
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("evm", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=9)
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 4
    if library:
        options.register_custom_ops_library(str(native.native_library()))
    else:
        model.functions.extend(functions.bodies(model))
        onnx.checker.check_model(model)
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, arrays)[0])


@settings(max_examples=20)
@given(**SIZES)
def test_the_torch_form_and_the_body(make_causal_conv: Make, relative_error: Error, seed: int, **sizes: int) -> None:
    inputs = make_causal_conv(*sizes.values(), seed=seed)
    expected = convolve_in_a_loop(inputs)
    assert relative_error(reference.run(inputs), expected, TERM) < KERNEL_RELATIVE
    assert relative_error(run(inputs, library=False), expected, TERM) < KERNEL_RELATIVE


@needs_library
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(**SIZES)
def test_the_kernel(isa: str, make_causal_conv: Make, relative_error: Error, seed: int, **sizes: int) -> None:
    inputs = make_causal_conv(*sizes.values(), seed=seed)
    assert relative_error(native.run(inputs), reference.run(inputs).double(), TERM) < KERNEL_RELATIVE


@needs_library
@pytest.mark.parametrize("threads", [1, 2])
def test_in_onnxruntime(isa: str, make_causal_conv: Make, relative_error: Error, threads: int) -> None:
    inputs = make_causal_conv(2, 150, 2, 150, 37, 4)
    y = run(inputs, library=True, threads=threads)
    assert relative_error(y, reference.run(inputs).double()) < KERNEL_RELATIVE
    half = inputs._replace(x=inputs.x.half(), weight=inputs.weight.half(), bias=inputs.bias.half())
    rounded = half._replace(x=half.x.float(), weight=half.weight.float(), bias=half.bias.float())
    for library in (True, False):
        y = run(half, library=library, threads=threads)
        assert y.dtype == torch.float16
        assert relative_error(y, reference.run(rounded).double()) < FP16_IO_RELATIVE


@needs_library
def test_what_does_not_fit_is_a_readable_error(make_causal_conv: Make) -> None:
    inputs = make_causal_conv(1, 20, 2, 20, 6, 3)
    for name in ("weight", "bias"):
        wrong = np.ascontiguousarray(getattr(inputs, name).numpy()[..., :-1])
        with pytest.raises(Exception, match=r"evm::CausalConv: \w+ has shape \(.*\), expected \("):
            run(inputs, library=True, **{name: wrong})
    for place in (-1, 20, 2**62):
        with pytest.raises(Exception, match="names a token that is not there"):
            run(inputs, library=True, order=np.full((2, 20), place))
        with pytest.raises(ValueError, match="refused"):
            native.run(inputs._replace(order=torch.full((2, 20), place)))
    with pytest.raises(ValueError, match="taps is 0"):
        native.run(inputs._replace(taps=0))
    assert run(inputs._replace(x=inputs.x[:0]), library=True).shape == (0, 2, 20, 6)


def test_the_torch_operator(make_causal_conv: Make) -> None:
    inputs = make_causal_conv(1, 7, 2, 6, 3, 2)
    floats = [tensor.double().requires_grad_() for tensor in inputs[:3]]
    wide = CausalConvInputs(floats[0], floats[1], floats[2], inputs.order, inputs.taps)
    expected = torch.autograd.grad(convolve_in_a_loop(wide).square().sum(), floats)
    torch.testing.assert_close(torch.autograd.grad(scan.causal_conv(*wide).square().sum(), floats), expected)
    arguments = [tensor.float().detach().requires_grad_() for tensor in floats]
    torch.library.opcheck(torch.ops.evm.causal_conv.default, (*arguments, inputs.order, inputs.taps))
