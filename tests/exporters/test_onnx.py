"""The exported graph: what a stock runtime and our library make of it, and what is in the file."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx.reference import ReferenceEvaluator

from evm_deploy import Bundle, ExportOptions, selective_scan_fn
from evm_deploy.errors import OptionError
from evm_deploy.exporters import onnx as exporter
from evm_deploy.exporters.deployed import make_reference
from evm_deploy.exporters.record import make_manifest
from evm_deploy.graph import functions
from evm_deploy.graph.schemas import translations
from evm_deploy.manifest import Preprocessing
from evm_deploy.models import EfficientVMamba
from evm_deploy.models.module import open_module
from evm_deploy.runtimes.onnxruntime import OnnxRunner
from evm_deploy.scan import native
from evm_deploy.tasks import CLASSIFICATION
from evm_deploy.tolerances import GOLDEN_LOGITS, PARITY

SIZES = ((224, 224), (192, 256), (250, 230))
FORMS = [False, True] if native.available() else [False]  # whether our operator library is loaded
NORMS = ("GatedNorm", "MeanOfNorm")
SMALL = ExportOptions(image_size=(64, 64))


def export(model: EfficientVMamba, options: ExportOptions) -> onnx.ModelProto:
    network = open_module(model)
    return exporter.export(network, make_manifest(network, options), options)


def run(proto: onnx.ModelProto, image: np.ndarray, library: bool = False) -> list[np.ndarray]:
    with OnnxRunner(proto.SerializeToString(), library=library) as runner:
        return runner.run(image)


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize(
    ("name", "side"),  # 32: the maps of the last stage have one row
    [("micro", 32), *(pytest.param(name, 224, marks=pytest.mark.slow) for name in ("tiny", "small", "base"))],
)
def test_goldens_at_every_size_from_one_graph(golden: Any, name: str, side: int) -> None:
    proto = export(golden.model(name), ExportOptions(image_size=(side, side), dynamic_size=True))
    for library in FORMS:
        with OnnxRunner(proto.SerializeToString(), library=library) as runner:
            for h, w in SIZES:
                found = torch.from_numpy(runner.run(golden.image(h, w).numpy())[0])
                assert golden.error(f"{name}_logits_{h}x{w}", found) <= GOLDEN_LOGITS


def test_golden_features_of_a_backbone(golden: Any) -> None:
    proto = export(golden.model("backbone_micro"), ExportOptions(image_size=(250, 230)))
    features = run(proto, golden.image(250, 230).numpy())
    assert [output.name for output in proto.graph.output] == ["feature0", "feature1", "feature2", "feature3"]
    for i, feature in enumerate(features):
        assert list(feature.shape) == golden.outputs[f"micro_feature{i}_shape_250x230"].tolist()
        sampled = torch.from_numpy(feature.ravel()[::97])
        assert golden.error(f"micro_feature{i}_250x230", sampled) <= GOLDEN_LOGITS


def test_the_scan_is_one_operator_in_a_small_graph(exported: Callable[..., Bundle]) -> None:
    proto = onnx.load(exported("tiny", image_size=(224, 224)).model_path)
    assert len(proto.graph.node) <= 350
    assert sum(node.op_type == "EfficientScan2D" for node in proto.graph.node) == 4  # one for each EVSS block
    assert {node.op_type for node in proto.graph.node if node.domain == "evm"} == {"EfficientScan2D", *NORMS}
    assert {body.name for body in proto.functions} == {"EfficientScan2D", "SelectiveScan", *NORMS}
    assert not {node.op_type for node in proto.graph.node} & {"Loop", "Scan", "If", "Einsum", "BatchNormalization"}
    text = proto.SerializeToString()
    assert b"/evm_deploy/" not in text  # nothing of the machine that exported it
    assert b"stack_trace" not in text


def test_the_same_model_gives_the_same_bytes(two_stages: Callable[..., EfficientVMamba]) -> None:
    assert export(two_stages(), SMALL).SerializeToString() == export(two_stages(), SMALL).SerializeToString()


@pytest.mark.parametrize(
    "options",
    [
        ExportOptions(image_size=(64, 48), opset=18),
        ExportOptions(image_size=(33, 61), opset=23, scan_form="inlined"),
        ExportOptions(image_size=(64, 64), precision="fp16"),
        ExportOptions(image_size=(64, 64), bake_preprocessing=True, softmax=True, dynamic_batch=True),
        pytest.param(
            ExportOptions(image_size=(64, 64), bake_preprocessing=True, precision="fp16", dynamic_size=True),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["opset 18", "inlined", "fp16", "baked", "baked fp16"],
)
def test_options(two_stages: Callable[..., EfficientVMamba], options: ExportOptions) -> None:
    model = two_stages().eval()
    proto = export(model, options)
    if options.scan_form == "inlined":  # no operator of ours
        assert not proto.functions
        assert {node.domain for node in proto.graph.node} == {""}
    sizes = [options.image_size, (95, 37)] if options.dynamic_size else [options.image_size]
    batches = [1, 3] if options.dynamic_batch else [1]
    rng = np.random.default_rng(0)
    outputs = CLASSIFICATION.describe_outputs([(1, 10)], softmax=options.softmax)
    preprocessing = Preprocessing((64, 64), baked=options.bake_preprocessing)
    pytorch = make_reference(model, preprocessing, CLASSIFICATION.post_process(outputs))
    for batch, (h, w) in [(b, size) for b in batches for size in sizes]:
        if options.bake_preprocessing:
            image = rng.integers(0, 256, (batch, h, w, 3), dtype=np.uint8)
        else:
            image = rng.standard_normal((batch, 3, h, w), dtype=np.float32)
        with torch.inference_mode():
            expected = pytorch(torch.from_numpy(image))
        for library in FORMS if options.scan_form == "operator" else [False]:
            found = run(proto, image, library)[0]
            assert found.dtype == np.float32
            assert relative(found, expected.numpy()) <= PARITY[options.precision]


def test_fp16_keeps_the_recurrence_in_float32(exported: Callable[..., Bundle]) -> None:
    proto = onnx.load(exported("micro", precision="fp16").model_path)
    types = {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
    scan = next(node for node in proto.graph.node if node.op_type == "EfficientScan2D")
    of_inputs = [types[name] for name in scan.input[1:]]
    half, single = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    assert of_inputs == [half, half, single, single, single]  # x_proj, dt_proj, dt_bias, A, D
    assert sum(t.data_type == single for t in proto.graph.initializer) <= 3 * 2  # nothing else stayed float32


ABLATIONS: dict[str, dict[str, Any]] = {
    "full cross-scan": {"scan": "ss2d"},
    "no convolution branch": {"conv_branch": False},
    "EVSS everywhere, step 3": {"blocks": ("evss", "evss"), "step": 3, "d_state": 5},
    "InRes first, EVSS last": {"blocks": ("inres", "evss")},
    "no scan at all": {"blocks": ("inres", "inres")},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ABLATIONS)
def test_ablations_with_dynamic_sizes(two_stages: Callable[..., EfficientVMamba], name: str) -> None:
    model = two_stages(**ABLATIONS[name]).eval()
    proto = export(model, ExportOptions(image_size=(64, 64), dynamic_batch=True, dynamic_size=True))
    for shape in [(1, 3, 64, 64), (2, 3, 75, 41)]:
        image = torch.randn(shape)
        with torch.inference_mode():
            expected = model(image)
        assert isinstance(expected, torch.Tensor)
        for library in FORMS:
            assert relative(run(proto, image.numpy(), library)[0], expected.numpy()) <= PARITY["fp32"]


def test_decay_as_large_as_float32_allows(two_stages: Callable[..., EfficientVMamba]) -> None:
    model = two_stages().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("A_logs"):
                parameter.fill_(87.0)  # exp(87) = 6e37
    proto, image = export(model, SMALL), torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        expected = model(image).numpy()
    for library in FORMS:
        found = run(proto, image.numpy(), library)[0]
        assert np.isfinite(found).all()
        assert relative(found, expected) <= PARITY["fp32"]


def broken(proto: onnx.ModelProto, carry: bool) -> onnx.ModelProto:
    """The graph with the body of the scan changed: what enters each chunk lost, or the scan's result dropped."""
    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    body = next(body for body in changed.functions if body.name == "SelectiveScan")
    nodes = list(body.node)
    if carry:  # the states that enter the chunks are the last that is cut to the number of chunks
        target = next(n for n in reversed(nodes) if n.op_type == "Slice" and n.input[0].startswith("pad"))
    else:  # the products of C and the states, as one sequence
        target = next(n for n in reversed(nodes) if n.op_type == "Reshape")
    zeros = onnx.helper.make_node("Sub", [target.output[0]] * 2, ["nothing"])
    position = nodes.index(target) + 1
    for node in nodes[position:]:
        node.input[:] = ["nothing" if name == target.output[0] else name for name in node.input]
    body.node.insert(position, zeros)
    return changed


@pytest.mark.parametrize("precision", ["fp32", pytest.param("fp16", marks=pytest.mark.slow)])
def test_a_broken_scan_fails_the_tolerance(golden: Any, exported: Callable[..., Bundle], precision: str) -> None:
    model, image = golden.model("tiny"), golden.image(224, 224)
    proto = onnx.load(exported("tiny", precision=precision, image_size=(224, 224)).model_path)
    with torch.inference_mode():
        expected = model(image).numpy()
    assert relative(run(proto, image.numpy())[0], expected) <= PARITY[precision]
    for carry in (True, False):
        assert relative(run(broken(proto, carry), image.numpy())[0], expected) > PARITY[precision]


def test_onnx_itself_evaluates_the_graph(golden: Any, exported: Callable[..., Bundle]) -> None:
    """Without any runtime: its evaluator needs a body to come after those that it calls."""
    model, image = golden.model("micro"), golden.image(64, 64)
    proto = onnx.load(exported("micro").model_path)
    found = ReferenceEvaluator(proto).run(None, {proto.graph.input[0].name: image.numpy()})[0]
    with torch.no_grad():
        assert relative(found, model(image).numpy()) <= 1e-5


def test_mambas_interface_exports_too() -> None:
    """Somebody else's model, which calls `selective_scan_fn`, through the same translation."""

    class Other(torch.nn.Module):
        def forward(self, u: torch.Tensor, delta: torch.Tensor, A: torch.Tensor, B: torch.Tensor) -> Any:
            return selective_scan_fn(u, delta, A, B, B, delta_softplus=True)

    arguments = (torch.randn(2, 6, 40), torch.randn(2, 6, 40), -torch.rand(6, 4), torch.randn(2, 3, 4, 40))
    with exporter.quiet():
        program = torch.onnx.export(
            Other().eval(), arguments, dynamo=True, custom_translation_table=translations(), verbose=False
        )
    assert program is not None
    proto = program.model_proto
    proto.functions.extend(functions.bodies(proto))
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    found = session.run(None, dict(zip(names, (a.numpy() for a in arguments), strict=True)))[0]
    assert relative(found, Other()(*arguments).numpy()) <= PARITY["fp32"]


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "fp8"},
        {"target": "onx"},
        {"opset": 17},
        {"opset": 99},
        {"image_size": (31, 64)},
        {"image_size": 64},
        {"image_size": (64,)},
        {"image_size": (64.0, 64)},
        {"image_size": "64"},
        {"image_size": (64, -64)},
        {"image_size": (64, 100000)},
        {"scan_form": "loop"},
    ],
)
def test_what_is_not_offered_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        ExportOptions(**changes)


def test_a_typo_gets_the_nearest_name() -> None:
    with pytest.raises(OptionError, match="did you mean 'onnx'"):
        ExportOptions(target="onxx")
    with pytest.raises(OptionError, match="did you mean 'fp16'"):
        ExportOptions(precision="fp61")
