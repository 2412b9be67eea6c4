"""What runs on integers, read from small graphs that the runtime optimised."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from evm_deploy.errors import BundleError
from evm_deploy.scan import native
from evm_deploy.scan.orders import make_cross_order
from evm_deploy.verification.integer_report import report_model_integers

RNG = np.random.default_rng(0)


def graph(*, integers: bool) -> bytes:
    """x (1, 4, 6, 6) through a 3x3 convolution to 16 channels, then a product of the 16 pooled values to 5.

    (The runtime fills float channels up to 16 with zeros, and multiplies these too.)
    """
    floats = {"w": RNG.standard_normal((16, 4, 3, 3)), "m": RNG.standard_normal((16, 5))}
    constants = {name: value.astype(np.float32) for name, value in floats.items()}
    conv_inputs, nodes = ["x", "w"], []
    if integers:
        constants |= {"s": np.float32(0.02), "z": np.uint8(128), "ws": np.float32(0.03), "wz": np.int8(0)}
        constants["w"] = RNG.integers(-127, 128, (16, 4, 3, 3)).astype(np.int8)
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"], name="q"),
            helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"], name="d"),
            helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], name="dw"),
        ]
        conv_inputs = ["xd", "wd"]
    nodes.append(helper.make_node("Conv", conv_inputs, ["c"], name="conv"))
    last = "c"
    if integers:
        nodes.append(helper.make_node("QuantizeLinear", ["c", "s", "z"], ["cq"], name="cq"))
        nodes.append(helper.make_node("DequantizeLinear", ["cq", "s", "z"], ["cd"], name="cd"))
        last = "cd"
    nodes += [
        helper.make_node("GlobalMaxPool", [last], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flat"),
        helper.make_node("MatMul", ["f", "m"], ["y"], name="product"),
    ]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 6, 6])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    onnx.checker.check_model(model)
    return model.SerializeToString()


IMAGE = RNG.standard_normal((1, 4, 6, 6)).astype(np.float32)
CONV, PRODUCT = 16 * 4 * 4 * (4 * 3 * 3), 16 * 5  # multiply-adds: 4 x 4 pixels of 16 channels, and 5 sums of 16


def test_a_float_graph_has_nothing_on_integers() -> None:
    report = report_model_integers(graph(integers=False), IMAGE, library=False)
    assert (report.multiply_adds, report.weights, report.conversions) == (0, 0, 0)
    assert sum(product.multiply_adds for product in report.products) == CONV + PRODUCT
    assert sum(product.weights for product in report.products) == 16 * 4 * 9 + 16 * 5


def test_shares_are_of_multiply_adds_and_of_weights() -> None:
    report = report_model_integers(graph(integers=True), IMAGE, library=False)
    assert report.multiply_adds == pytest.approx(CONV / (CONV + PRODUCT))
    assert report.weights == pytest.approx(576 / (576 + 80))
    assert report.conversions == 2
    assert len(report.floats) == 1
    assert "1 conversions" not in report.describe()
    assert "99.1%" in report.describe()


@pytest.mark.skipif(not native.available(), reason="no native library")
def test_a_scan_multiplies_its_tokens_by_the_weights_of_every_group() -> None:
    K, D, N, R, T = 4, 6, 2, 3, 12
    shapes = {"x_proj": (K, D, R + 2 * N), "dt_proj": (K, R, D), "dt_bias": (K, D), "A": (K, N, D), "D": (K, D)}
    constants = {name: -np.ones(shape, np.float32) for name, shape in shapes.items()}
    order, back = make_cross_order(3, 4)
    constants |= {"order": order.numpy(), "back": back.numpy()}
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, T, D]) for name in ("x", "y")]
    node = helper.make_node("OrderedScan", ["x", *constants], ["y"], name="scan", domain="evm")
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("evm", 1)]
    scan = helper.make_graph([node], "g", values[:1], values[1:], weights)
    model = helper.make_model(scan, opset_imports=imports, ir_version=9).SerializeToString()
    report = report_model_integers(model, np.ones((1, T, D), np.float32), library=True)
    assert [product.multiply_adds for product in report.products] == [K * T * D * (R + 2 * N), K * T * R * D]


def test_a_model_that_does_not_run_is_an_error() -> None:
    with pytest.raises(BundleError, match="onnxruntime cannot load the model"):
        report_model_integers(b"not a model", IMAGE, library=False)
    with pytest.raises(BundleError, match="onnxruntime cannot run"):
        report_model_integers(graph(integers=False), IMAGE[:, :3], library=False)
