"""Rewrites of the float graph before integers: the function stays, the operators suit integers."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxscript import ir

from evm_deploy.bundle import Bundle, Preprocessing
from evm_deploy.calib.onnx.measure import finish_model
from evm_deploy.calib.onnx.rewrites import rewrite_pixels, rewrite_pools, rewrite_products
from evm_deploy.calib.onnx.taps import Tap
from evm_deploy.preprocessing import preprocess
from evm_deploy.tolerances import PARITY

Networks = Callable[..., Path]


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def convolution(size: int = 8, out: str = "y", **attributes: object) -> ir.Model:
    """image (1, 3, size, size) through a 4x4 convolution with stride 4, then to NHWC."""
    rng = np.random.default_rng(0)
    given = {"kernel_shape": [4, 4], "strides": [4, 4]} | attributes
    nodes = [helper.make_node("Conv", ["image", "w", "b"], ["c"], name="stem", **given)]
    nodes.append(helper.make_node("Transpose", ["c"], [out], perm=[0, 2, 3, 1]))
    constants = {"w": rng.standard_normal((5, 3, *given["kernel_shape"])), "b": rng.standard_normal(5)}  # type: ignore[misc]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, size, size])],
        [helper.make_tensor_value_info(out, TensorProto.FLOAT, [None] * 4)],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))


def run(model: ir.Model, image: np.ndarray) -> np.ndarray:
    name = str(model.graph.outputs[0].name)
    return Tap(finish_model(model), [name])(image)[name]


def test_a_network_stays_the_same_function(networks: Networks) -> None:
    bundle = Bundle.open(networks())
    model = ir.from_proto(onnx.load(bundle.model_path))
    image = bundle.sample().input
    expected = run(model, image)
    rewrite_pools(model.graph)
    assert rewrite_pixels(model.graph, bundle.manifest.preprocessing, 0) == "pixels"
    rewrite_products(model.graph)
    assert np.abs(run(model, image) - expected).max() <= PARITY["fp32"] * max(1, np.abs(expected).max())
    kinds = operators(model)
    assert kinds.count("GlobalAveragePool") == 2
    assert kinds.count("Conv") == operators(ir.from_proto(onnx.load(bundle.model_path))).count("Conv") - 3


@pytest.mark.parametrize("kernel", [1, 2, 4])
def test_patches_become_rows_of_a_product(kernel: int) -> None:
    model = convolution(kernel_shape=[kernel, kernel], strides=[kernel, kernel])
    image = np.random.default_rng(1).standard_normal((1, 3, 8, 8), np.float32)
    expected = run(model, image)
    rewrite_products(model.graph)
    assert "MatMul" in operators(model)
    assert "Conv" not in operators(model)
    assert np.allclose(run(model, image), expected, atol=1e-5)


@pytest.mark.parametrize(
    "attributes", [{"pads": [1, 1, 1, 1]}, {"strides": [2, 2]}, {"dilations": [2, 2]}, {"auto_pad": "SAME_UPPER"}]
)
def test_what_is_no_cutting_into_patches_stays_a_convolution(attributes: dict[str, object]) -> None:
    model = convolution(**attributes)
    rewrite_products(model.graph)
    assert rewrite_pixels(model.graph, Preprocessing((32, 32)), 0) is None
    assert operators(model) == ["Conv", "Transpose"]


def test_a_size_that_the_patches_do_not_fill_stays_a_convolution() -> None:
    model = convolution(size=10)
    rewrite_products(model.graph)
    assert operators(model) == ["Conv", "Transpose"]


@pytest.mark.parametrize(
    "preprocessing",
    [Preprocessing((32, 32)), Preprocessing((32, 32), channels="BGR", mean=(0.5, 0, 1), std=(0.1, 1 / 255, 1))],
    ids=["usual", "other"],
)
@pytest.mark.parametrize("zero", [0, 128])
def test_pixels_of_a_prepared_image_are_whole_numbers(zero: int, preprocessing: Preprocessing) -> None:
    """So that integers of scale 1 hold them exactly."""
    picture = np.random.default_rng(2).integers(0, 256, (40, 50, 3), np.uint8)
    image = np.asarray(preprocess(picture, preprocessing), np.float32)
    model = convolution(size=32)
    expected = run(model, image)
    assert rewrite_pixels(model.graph, preprocessing, zero) == "pixels"
    assert np.allclose(run(model, image), expected, atol=1e-4)
    found = Tap(finish_model(model), ["pixels"])(image)["pixels"]
    exact = np.asarray(preprocess(picture, dataclasses.replace(preprocessing, baked=True)), np.float32).transpose(
        0, 3, 1, 2
    )
    assert np.abs(found - (exact - zero)).max() < 1e-3


def test_only_means_over_the_pixels_of_a_map_become_pools() -> None:
    for axes, keepdims, expected in (
        ([2, 3], 1, "GlobalAveragePool"),
        ([1, 2], 1, "ReduceMean"),
        ([2, 3], 0, "ReduceMean"),
    ):
        graph = helper.make_graph(
            [helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=keepdims)],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 4, 4])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(np.array(axes), "axes")],
        )
        model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))
        rewrite_pools(model.graph)
        assert operators(model) == [expected]
