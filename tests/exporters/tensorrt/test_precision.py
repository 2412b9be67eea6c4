"""The rules of precision, on layers made by hand, on reports, and on networks that were parsed."""

from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from evm_deploy.errors import CheckFailed, InputError, MissingToolError
from evm_deploy.exporters.tensorrt import build, layers
from evm_deploy.exporters.tensorrt.layers import EngineLayer
from evm_deploy.exporters.tensorrt.precision import check_network, check_precision
from evm_deploy.exporters.tensorrt.shapes import Profile

CALL = "node_scan (EfficientScan2D)"
INNER = f"node_selectivescan (SelectiveScan) | {CALL}"
CONV = EngineLayer("conv", "CONVOLUTION", ("float16",), ("float16",), ("node_conv",))
PROJECTION = EngineLayer(
    "project", "MATRIX_MULTIPLY", ("float32", "float32"), ("float32",), (f"node_of_matmul | {CALL}",)
)
CAST = EngineLayer("cast", "CAST", ("float16",), ("float32",), (f"node_of_cast_0 | {INNER}",))
STEP = EngineLayer("step", "ELEMENTWISE", ("float32", "float32"), ("float32",), (f"node_of_mul | {INNER}",))
SHAPE = EngineLayer("shape", "SHAPE", ("float16",), ("int64",), ("node_shape",))
PLUGIN = EngineLayer("scan", "PLUGIN_V3", ("float16", "float32"), ("float16",), ("node_scan",))
HALF = (CONV, PROJECTION, CAST, STEP, SHAPE)


def changed(layer: EngineLayer, kind: str) -> EngineLayer:
    return EngineLayer(layer.name, layer.kind, (kind, *layer.inputs[1:]), layer.outputs, layer.nodes)


def check(found: tuple[EngineLayer, ...], precision: str, scans: int = 1, plugins: int | None = None) -> None:
    check_network(found, precision, scans=scans, plugins=plugins, where="the network")


def test_half_outside_and_single_inside_passes() -> None:
    check(HALF, "fp16")
    check((CONV, PLUGIN), "fp16", plugins=1)


@pytest.mark.parametrize(
    ("found", "complaint"),
    [
        ((changed(CONV, "float32"), *HALF[1:]), "every convolution and matrix product must be float16, but conv"),
        ((CONV, changed(PROJECTION, "float16"), *HALF[2:]), "every matrix product of the scan must be float32"),
        ((*HALF[:3], changed(STEP, "float16"), SHAPE), r"the recurrence must be float32, but step \(ELEMENTWISE\)"),
        ((*HALF[:3], changed(STEP, "bfloat16"), SHAPE), "but step .* is bfloat16"),
        (HALF[1:], "there is no layer to hold: every convolution"),
        ((CONV, SHAPE), "0 of 1 scans were found"),
    ],
)
def test_what_is_not_fp16(found: tuple[EngineLayer, ...], complaint: str) -> None:
    with pytest.raises(CheckFailed, match=complaint) as error:
        check(found, "fp16")
    assert error.value.exit_code == 1


def test_what_is_not_fp32() -> None:
    single = tuple(changed(layer, "float32") for layer in (CONV, PROJECTION, STEP))
    with pytest.raises(CheckFailed, match=r"every layer must be float32, but conv \(CONVOLUTION\) is float16"):
        check(single, "fp32")  # what it gives is still float16
    with pytest.raises(CheckFailed, match="no layer is float32"):
        check((), "fp32", scans=0)
    check((PROJECTION, STEP), "fp32")


def test_a_kernel_with_a_cast_in_it_may_take_float16() -> None:
    cast = EngineLayer("__myl_CastMul", "kgen", ("float16",), ("float32",), (*CAST.nodes, *STEP.nodes))
    back = EngineLayer("__myl_AddCast", "kgen", ("float32",), ("float16",), (*STEP.nodes, f"node_of_y | {INNER}"))
    check_precision((CONV, cast, back), "fp16", where="the engine")
    with pytest.raises(CheckFailed, match="the recurrence must be float32, but __myl_Mul"):
        check_precision(
            (CONV, EngineLayer("__myl_Mul", "kgen", ("float16",), ("float32",), STEP.nodes)), "fp16", where="the engine"
        )


FUSED = (
    "Name: fused, LayerType: runtime_fusion, Inputs: [ { Name: r, Dimensions: [1,17,32], Datatype: Float }, { Name: x, "
    "Dimensions: [1,17,64], Datatype: Half }], Constants: [ { Name: w, Dimensions: [1,64,32], Strides: [2048,32,1], "
    "Datatype: Half }, { Name: s, Dimensions: [1,1,32], Datatype: Float }], Outputs: [ { Name: y, Dimensions: "
    "[1,17,32], Datatype: Float }], TacticName: , Metadata: [ONNX Layer: node_linear][ONNX Layer: node_add]"
)


def test_a_product_with_a_float32_sum_in_it_is_known_by_its_weights() -> None:
    (found,) = layers.read_report([FUSED])
    assert (found.inputs, found.outputs, found.weights) == (("float32", "float16"), ("float32",), ("float16",))
    check_precision((found,), "fp16", where="the engine")
    (single,) = layers.read_report([FUSED.replace("Datatype: Half }, { Name: s", "Datatype: Float }, { Name: s")])
    with pytest.raises(CheckFailed, match="every convolution and matrix product must be float16, but fused"):
        check_precision((single,), "fp16", where="the engine")


def test_an_engine_may_have_fused_all_products() -> None:
    fused = EngineLayer("all", "kgen", ("float16",), ("float16",), ("node_conv",))
    check_precision((fused,), "fp16", where="the engine")
    with pytest.raises(CheckFailed, match="no layer is float16"):  # built without the types of its layers
        check_precision((EngineLayer("all", "", (), (), ()),), "fp16", where="the engine")


def test_plugins_are_counted() -> None:
    with pytest.raises(CheckFailed, match="1 of 2 plugins were found"):
        check((CONV, PLUGIN), "fp16", plugins=2)
    with pytest.raises(CheckFailed, match="0 of 1 plugins were found"):
        check(HALF, "fp16", plugins=1)


REPORT = (
    "Name: conv_1, LayerType: correlation, Inputs: [ { Name: a, Dimensions: [1,3], Datatype: Half, Format: (NHWC) }], "
    "Constants: [ { Name: w, Dimensions: [1], Datatype: Float }], Outputs: [ { Name: b, Dimensions: [1], Datatype: "
    "Half, Format: (Linear) }, { Name: c, Datatype: Float }], TacticName: x, StreamId: 0, Metadata: "
    "[ONNX Layer: node_conv]"
    "[ONNX Layer: node_of_mul | node_scan (EfficientScan2D)]"
)
INSPECTION = """{"Layers": [{"Name": "conv_1", "LayerType": "CaskConvolution",
  "Inputs": [{"Name": "a", "Dimensions": [1, 3], "Format/Datatype": "Channel major FP16 format where C % 8 == 0"}],
  "Outputs": [{"Name": "b", "Datatype": "Half", "Format": "NHWC"}, {"Name": "c", "Format/Datatype": "Int32"}],
  "Metadata": "[ONNX Layer: node_conv]"}], "Bindings": ["image"]}"""


def test_a_report_is_read() -> None:
    found = layers.read_report(["Layers:", REPORT, "Bindings:"])
    nodes = ("node_conv", "node_of_mul | node_scan (EfficientScan2D)")
    assert found == (EngineLayer("conv_1", "correlation", ("float16",), ("float16", "float32"), nodes),)
    assert layers.count_layers(found) == {"correlation float16/float32": 1}


def test_an_inspection_is_read() -> None:
    found = layers.read_inspection(INSPECTION)
    assert found == (EngineLayer("conv_1", "CaskConvolution", ("float16",), ("float16", "int32"), ("node_conv",)),)


def request(nodes: list[onnx.NodeProto], kind: int, precision: str) -> build.EngineRequest:
    """A graph from x to y, both (1, 4, 8, 8), with a weight w (4, 4, 1, 1)."""
    weight = helper.make_tensor("w", kind, [4, 4, 1, 1], [0.5] * 16)
    ends = [helper.make_tensor_value_info(name, kind, [1, 4, 8, 8]) for name in "xy"]
    proto = helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight]),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    shape = (1, 4, 8, 8)
    return build.EngineRequest(proto.SerializeToString(), precision, Profile("x", shape, shape, shape), ("8.6",), 0)


CONVOLVE = helper.make_node("Conv", ["x", "w"], ["y"], name="the_conv")


def test_a_float32_convolution_fails_a_request_for_fp16(tmp_path: Any) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    with pytest.raises(CheckFailed, match=r"the network.*must be float16, but the_conv \(CONVOLUTION\) is float32"):
        build.build_engine(trt, request([CONVOLVE], TensorProto.FLOAT, "fp16"))
    with pytest.raises(CheckFailed, match="every layer must be float32, but the_conv"):
        build.build_engine(trt, request([CONVOLVE], TensorProto.FLOAT16, "fp32"))
    engine = build.build_engine(trt, request([CONVOLVE], TensorProto.FLOAT16, "fp16"))
    assert any("float16" in layer.inputs for layer in engine.layers)


def test_a_graph_that_cannot_be_parsed_names_the_node(tmp_path: Any) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    unknown = helper.make_node("Nonsense", ["x"], ["y"], name="the_odd_one", domain="acme")
    log = tmp_path / "failed.log"
    with pytest.raises(
        InputError, match=r"tensorrt_rtx .* cannot read the graph: .* the_odd_one \(Nonsense\)"
    ) as error:
        build.build_engine(trt, request([unknown], TensorProto.FLOAT, "fp32"), log)
    assert "\n" not in str(error.value)
    assert str(log) in error.value.fix
    assert "the_odd_one" in log.read_text()


def test_an_empty_log_is_not_kept(tmp_path: Any) -> None:
    error = MissingToolError("there is no plugin.", "install it.")
    assert build._add_log(error, tmp_path / "failed.log", "") is error
    assert not list(tmp_path.iterdir())


def test_bytes_that_are_no_graph() -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    shape = (1, 4, 8, 8)
    for data in (b"", b"nothing of the kind" * 20):
        with pytest.raises(InputError, match="cannot read the graph"):
            build.build_engine(trt, build.EngineRequest(data, "fp32", Profile("x", shape, shape, shape), ("8.6",), 0))


def test_a_gpu_that_the_library_cannot_build_for_is_quoted() -> None:
    """Why Turing is not in the offer: TensorRT-RTX has no float32 matrix product there."""
    trt = pytest.importorskip("tensorrt_rtx")
    shape = (1, 4, 8, 8)
    multiply = helper.make_node("MatMul", ["x", "x"], ["y"], name="the_product")
    graph = request([multiply], TensorProto.FLOAT, "fp32").graph
    turing = build.EngineRequest(graph, "fp32", Profile("x", shape, shape, shape), ("7.5",), 0)
    with pytest.raises(InputError, match=r"cannot build the engine: .*the_product.*Turing"):
        build.build_engine(trt, turing)
