"""A network on integers: what the file holds, what the runtimes make of it, and how near to the float one it stays."""

import contextlib
import dataclasses
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime.quantization as plain
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxscript import ir
from PIL import Image

import evm_deploy
from evm_deploy import QuantizeOptions
from evm_deploy.bundle import Bundle, write_bundle
from evm_deploy.calib.onnx import quantize as quantizer
from evm_deploy.calib.onnx.measure import check_same, finish_model, rewrite
from evm_deploy.calib.onnx.scheme import ONNXRUNTIME
from evm_deploy.calib.onnx.speed import Speed
from evm_deploy.errors import BundleError, CheckFailed, InputError, MissingToolError, OptionError, OutputError
from evm_deploy.preprocessing import preprocess
from evm_deploy.runtimes.onnxruntime import OnnxRunner
from evm_deploy.scan import native
from evm_deploy.tasks import find_task
from evm_deploy.tolerances import INT8_COSINE
from evm_deploy.verification.integer_report import report_integers, report_model_integers
from evm_deploy.verification.parity import ParityReport

Networks = Callable[..., Path]
Photographs = list[npt.NDArray[np.uint8]]


@pytest.fixture(scope="module")
def quantized(
    networks: Networks, photographs: Photographs, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Bundle]:
    """quantized(options, **of_the_export): an int8 bundle of the micro network."""
    folder = tmp_path_factory.mktemp("quantized")
    made: dict[str, Bundle] = {}

    def make(options: QuantizeOptions | None = None, **of_the_export: object) -> Bundle:
        key = repr((options, of_the_export))
        if key not in made:
            float_ = networks(**of_the_export)
            made[key] = evm_deploy.quantize(float_, photographs, folder / str(len(made)), options).bundle
        return made[key]

    return make


def test_every_way_of_running_it_is_near_the_float_network(quantized: Callable[..., Bundle]) -> None:
    bundle = quantized()
    assert bundle.manifest.precision == "int8"
    rows = bundle.manifest.parity["rows"] if bundle.manifest.parity else []
    assert {row["runtime"] for row in rows} == {"onnxruntime"} | (
        {"onnxruntime + evm_ops"} if native.available() else set()
    )
    assert min(row["cosine"] for row in rows) >= INT8_COSINE


def test_the_golden_pair_is_a_sample_and_what_the_float_network_makes_of_it(
    quantized: Callable[..., Bundle], networks: Networks
) -> None:
    sample = quantized().sample()
    with OnnxRunner(networks() / "model.onnx", library=native.available()) as runner:
        assert np.allclose(runner.run(sample.input)[0], sample.outputs[0])
    assert not np.array_equal(sample.input, Bundle.open(networks()).sample().input)


def test_it_is_compared_with_the_checkpoint_too(quantized: Callable[..., Bundle], networks: Networks) -> None:
    report = evm_deploy.verify(quantized().path, checkpoint=networks().parent / "micro.safetensors")
    assert isinstance(report, ParityReport)
    assert report.passed
    assert report.scans is None  # integers feed them: the float bundle's were compared


def test_what_really_runs_on_integers(quantized: Callable[..., Bundle], networks: Networks) -> None:
    for library in {False, native.available()}:
        float_ = report_integers(Bundle.open(networks()), library=library)
        report = report_integers(quantized(), library=library)
        assert float_.multiply_adds == float_.weights == float_.conversions == 0
        assert report.multiply_adds > 0.95
        assert report.weights > 0.95
        assert sum(p.multiply_adds for p in report.products) == sum(p.multiply_adds for p in float_.products)


def test_fewer_than_half_of_the_conversions_that_the_runtime_s_own_tool_leaves(
    quantized: Callable[..., Bundle], networks: Networks, tmp_path: Path
) -> None:
    class Reader(plain.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = [{"image": Bundle.open(networks()).sample().input}]

        def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
            return self.left.pop() if self.left else None

    float_, model = Bundle.open(networks()), tmp_path / "plain.onnx"
    kinds = {"activation_type": plain.QuantType.QUInt8, "weight_type": plain.QuantType.QInt8}
    plain.quantize_static(float_.model_path, model, Reader(), per_channel=True, **kinds)
    theirs = report_model_integers(model.read_bytes(), float_.sample().input, library=False)
    assert report_integers(quantized(), library=False).conversions < theirs.conversions / 2


def test_the_recurrence_stays_float(quantized: Callable[..., Bundle]) -> None:
    proto = onnx.load(quantized().model_path)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    scans = [node for node in proto.graph.node if node.op_type == "QuantizedEfficientScan2D"]
    assert len(scans) == 2
    for node in scans:
        kinds = [constants[name].dtype.name for name in node.input[1:]]
        assert kinds == ["float32", "uint8", "int8", "float32", "float32", "float32", "float32", "float32"]


def test_integers_are_handed_on_where_the_next_layer_takes_them(quantized: Callable[..., Bundle]) -> None:
    """An inverted residual block is one region: one conversion in, one out, in the runtime's own graph."""
    proto = onnx.load(quantized().model_path)
    kinds = Counter(node.op_type for node in proto.graph.node)
    block = [node.name for node in proto.graph.node if node.op_type == "QuantizeLinear" and "layers.2" in node.input[0]]
    assert len(block) == 1, block  # the block's input; the values inside are made integers by what makes them
    assert kinds["GlobalAveragePool"] == 2


def test_the_norm_is_converted_once_for_all_that_take_it(quantized: Callable[..., Bundle]) -> None:
    proto = onnx.load(quantized().model_path)
    norms = {node.output[0] for node in proto.graph.node if node.op_type == "LayerNormalization"}
    users = Counter(name for node in proto.graph.node for name in node.input if name in norms)
    converted = Counter(node.input[0] for node in proto.graph.node if node.op_type == "QuantizeLinear")
    assert all(converted[name] <= 1 for name in norms)
    assert sum(converted[name] == users[name] == 1 for name in norms) >= 2  # two EVSS blocks: x, z and the branch


def test_pixels_are_taken_as_they_are(quantized: Callable[..., Bundle]) -> None:
    bundle = quantized(bake_preprocessing=True)
    proto = onnx.load(bundle.model_path)
    first = proto.graph.node[0]
    assert (first.op_type, first.input[0]) == ("DequantizeLinear", "image")
    assert not any("image" in node.input for node in proto.graph.node[1:])
    assert bundle.manifest.parity
    assert min(row["cosine"] for row in bundle.manifest.parity["rows"]) >= INT8_COSINE


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 80, 96)])
def test_any_batch_and_size_still(quantized: Callable[..., Bundle], shape: tuple[int, int, int]) -> None:
    batch, h, w = shape
    bundle = quantized(dynamic_batch=True, dynamic_size=True)
    image = np.random.default_rng(0).standard_normal((batch, 3, h, w), np.float32)
    for library in {False, native.available()}:
        with OnnxRunner(bundle.model_path, library=library) as runner:
            assert np.isfinite(runner.run(image)[0]).all()


def test_backbones_too(exported: Callable[..., Bundle], photographs: Photographs, tmp_path: Path) -> None:
    float_ = exported("backbone_micro")
    made = evm_deploy.quantize(float_.path, photographs, tmp_path / "int8").bundle
    assert made.manifest.task == "backbone"
    assert made.manifest.parity
    with pytest.raises(OptionError, match="backbone has no classes to search by"):
        evm_deploy.quantize(float_.path, photographs, tmp_path / "s", QuantizeOptions(search=True))


@pytest.mark.parametrize(("asked", "written"), [(1.02, False), (1.0, True)])
def test_integers_that_are_not_faster_are_refused_on_request(
    networks: Networks,
    photographs: Photographs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: float,
    written: bool,
) -> None:
    monkeypatch.setattr("evm_deploy.calib.onnx.quantize.compare_speed", lambda *_: Speed(10.0, 9.9, 0.99, 0.98, 1.0))
    options = QuantizeOptions(require_speedup=asked, equalise=False, bias_correction=False, verify=False)
    refused = pytest.raises(CheckFailed, match=r"a speedup of 1\.02 is not shown: int8 takes 0\.99")
    with contextlib.nullcontext() if written else refused:
        evm_deploy.quantize(networks(), photographs[:2], tmp_path / "made", options)
    assert (tmp_path / "made").exists() == written


def test_a_block_that_is_excluded_stays_float(quantized: Callable[..., Bundle]) -> None:
    bundle = quantized(QuantizeOptions(exclude=("layers.3.1",)))
    assert bundle.manifest.calibration
    assert all(name.startswith("layers.3.1.") for name in bundle.manifest.calibration["float_layers"])
    assert report_integers(bundle, library=False).weights < report_integers(quantized(), library=False).weights
    float_ = {p.node for p in report_integers(bundle, library=False).products if not p.integer and p.weights > 1000}
    assert len(float_) >= 4


def test_the_defaults_lose_less_than_plain_rounding(
    quantized: Callable[..., Bundle], networks: Networks, photographs: Photographs
) -> None:
    """Over all images, as a share of the scores' length: 0.021 and 0.026."""
    preprocessing = quantized().manifest.preprocessing
    images = [preprocess(photograph, preprocessing) for photograph in photographs]
    expected = scores(networks() / "model.onnx", images)

    def loss(bundle: Bundle) -> float:
        return float(np.linalg.norm(scores(bundle.model_path, images) - expected) / np.linalg.norm(expected))

    neither = quantized(QuantizeOptions(equalise=False, bias_correction=False, method="minmax"))
    assert loss(quantized()) < 0.95 * loss(neither)


def scores(model: Path, images: list[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    with OnnxRunner(model, library=native.available()) as runner:
        return np.concatenate([runner.run(image)[0] for image in images])


def test_what_was_done_is_written_down(quantized: Callable[..., Bundle], photographs: Photographs) -> None:
    record = quantized().manifest.calibration
    assert record
    assert record["method"] == "mse"
    assert record["data"]["count"] == len(photographs)
    assert len(record["data"]["sha256"]) == 64
    assert record["equalised"]
    assert record["ranges"]["pixels"] == [0, 255]
    assert record["integers"][0]["multiply_adds"] > 0.95
    assert record["speed"]["ratio"] > 0
    assert any("on integers" in note for note in record["notes"])


def test_a_layer_that_is_not_on_integers_fails_the_check(quantized: Callable[..., Bundle], networks: Networks) -> None:
    """The record of an int8 bundle over the graph of the float one."""
    float_ = Bundle.open(networks())
    liar = dataclasses.replace(
        float_, manifest=dataclasses.replace(float_.manifest, calibration=quantized().manifest.calibration)
    )
    with pytest.raises(CheckFailed, match=r"runs 0 of \d+ layers on integers; in float: "):
        quantizer.check(liar, float_)


@pytest.mark.parametrize("weight", ["layers.2.1.conv_pw.0.weight.quantized", "op.x_proj.quantized"])
def test_integers_that_some_processors_add_wrongly_are_refused(
    weight: str, quantized: Callable[..., Bundle], tmp_path: Path
) -> None:
    """A bundle that was changed and sealed again: the hashes are right, the weights are not within the bound."""
    bundle = quantized()
    with write_bundle(tmp_path / "changed") as draft:
        shutil.copytree(bundle.path, draft.path, dirs_exist_ok=True)
        proto = onnx.load(bundle.model_path)
        tensor = next(tensor for tensor in proto.graph.initializer if tensor.name.endswith(weight))
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(tensor.dims, 127, np.int8), tensor.name))
        onnx.save(proto, draft.path / "model.onnx")
        draft.seal(bundle.manifest)
    for refused in (evm_deploy.verify, lambda path: evm_deploy.predict(path, [])):
        with pytest.raises(BundleError, match=rf"integers of .*{weight}.*processors without VNNI"):
            refused(tmp_path / "changed")


def test_a_full_temporary_disk_is_not_the_model_s_fault(
    quantized: Callable[..., Bundle], small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (small_disk / "full").write_bytes(b"x" * (900 << 10))
    bundle = quantized()
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    with pytest.raises(OutputError, match="temporary folder"):
        report_integers(bundle, library=False)
    assert [path.name for path in small_disk.iterdir()] == ["full"]


def test_what_cannot_be_quantised_says_what_can(networks: Networks, photographs: Photographs, tmp_path: Path) -> None:
    for options, message in (
        ({"precision": "fp16"}, "quantize the bundle that was exported with --precision fp32"),
        ({"scan_form": "inlined"}, "--scan-form operator"),
    ):
        with pytest.raises(InputError, match=message):
            evm_deploy.quantize(networks(**options), photographs, tmp_path / "out")
    with pytest.raises(OptionError, match=r"no layer or block 'layers\.3\.7' to exclude.*did you mean 'layers\.3\.1'"):
        evm_deploy.quantize(networks(), photographs, tmp_path / "out", QuantizeOptions(exclude=("layers.3.7",)))
    assert not (tmp_path / "out").exists()


def test_integers_without_functions(quantized: Callable[..., Bundle]) -> None:
    bundle, with_functions = quantized(QuantizeOptions(scan_form="inlined")), quantized()
    proto = onnx.load(bundle.model_path)
    assert not proto.functions
    assert {node.domain for node in proto.graph.node} == {""}
    assert bundle.manifest.scan_form == "inlined"
    (report,) = bundle.manifest.calibration["integers"]
    assert report["integer_nodes"] >= len(bundle.manifest.calibration["layers"])
    image = bundle.sample().input
    found = [OnnxRunner(each.model_path, library=False).run(image)[0] for each in (bundle, with_functions)]
    np.testing.assert_allclose(*found, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda proto: b"no graph" * 100, "not a valid graph"),
        (lambda proto: b"", "not a valid graph"),
        (lambda proto: outside(proto), "points outside"),
        (lambda proto: nameless(proto), "not a graph of evm-deploy"),
        (lambda proto: untyped(proto), "not a valid graph"),
        (lambda proto: small(proto, TensorProto.DOUBLE), "no layer .* in float32"),
        (lambda proto: small(proto, TensorProto.FLOAT16), "no layer .* in float32"),
        (lambda proto: small(proto, TensorProto.FLOAT, opset=9), "cannot be made one of integers"),
    ],
)
def test_a_graph_that_export_did_not_write(
    networks: Networks,
    photographs: Photographs,
    tmp_path: Path,
    change: Callable[[onnx.ModelProto], bytes],
    message: str,
) -> None:
    float_ = Bundle.open(networks())
    with write_bundle(tmp_path / "strange") as draft:
        (draft.path / "model.onnx").write_bytes(change(onnx.load(float_.model_path)))
        draft.write_sample(float_.sample())
        draft.seal(float_.manifest)
    with pytest.raises(InputError, match=message):
        evm_deploy.quantize(tmp_path / "strange", photographs, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def untyped(proto: onnx.ModelProto) -> bytes:
    proto.graph.initializer[0].data_type = 99
    return proto.SerializeToString()


def small(proto: onnx.ModelProto, kind: int, opset: int = 20) -> bytes:
    """A matrix product in numbers of this kind, with a constant that a node holds, and one in a branch alone."""
    image, scores = proto.graph.input[0], proto.graph.output[0]
    size = [dim.dim_value for dim in image.type.tensor_type.shape.dim]
    node, typed = helper.make_node, helper.tensor_dtype_to_np_dtype(kind)
    weight = np.random.default_rng(0).standard_normal((np.prod(size), 10)) / 100
    nodes = [
        node("Flatten", [image.name], ["flat"], name="flat"),
        node("Cast", ["flat"], ["cast"], to=kind, name="cast"),
        node("MatMul", ["cast", "weight"], ["product"], name="product"),
        node("Cast", ["product"], ["scores"], to=TensorProto.FLOAT, name="scores"),
        node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True)), name="yes"),
        node("If", ["yes"], ["bias"], then_branch=branch("then"), else_branch=branch("else"), name="choice"),
        node("Add", ["scores", "bias"], [scores.name], name="sum"),
    ]
    constants = {"weight": weight.astype(typed), "one": np.ones(10, np.float32)}
    held = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "small", [image], [scores], held)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return bytes(made.SerializeToString())


def branch(name: str) -> onnx.GraphProto:
    made = helper.make_tensor_value_info(name, TensorProto.FLOAT, [10])
    return helper.make_graph([helper.make_node("Identity", ["one"], [name], name=f"{name}.one")], name, [], [made])


def test_constants_of_nodes_and_of_branches_are_kept(networks: Networks) -> None:
    bundle = Bundle.open(networks())
    model = ir.from_proto(onnx.load_from_string(small(onnx.load(bundle.model_path), TensorProto.FLOAT)))
    rewrite(model, bundle, ONNXRUNTIME)
    assert {tensor.name for tensor in finish_model(model).graph.initializer} == {"weight", "one"}


def outside(proto: onnx.ModelProto) -> bytes:
    """Weights in a file that is not in the bundle."""
    tensor = next(tensor for tensor in proto.graph.initializer if len(tensor.dims) == 4)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    return proto.SerializeToString()


def nameless(proto: onnx.ModelProto) -> bytes:
    for node in proto.graph.node:
        node.name = ""
    return proto.SerializeToString()


def test_nothing_left_to_turn(networks: Networks, photographs: Photographs, tmp_path: Path) -> None:
    blocks = ("patch_embed", *(f"layers.{i}.blocks.0" for i in (0, 1)), *(f"layers.{i}.downsample" for i in (0, 1)))
    blocks = (*blocks, "layers.2.1", "layers.2.3", "layers.3.1")
    with pytest.raises(OptionError, match="every layer is excluded"):
        evm_deploy.quantize(networks(), photographs, tmp_path / "out", QuantizeOptions(exclude=blocks))
    assert not (tmp_path / "out").exists()


def test_places_within_each_other(networks: Networks, photographs: Photographs, tmp_path: Path) -> None:
    source = tmp_path / "float"
    shutil.copytree(networks(), source)
    before = sorted(source.rglob("*"))
    for out, options in (
        (source, {"overwrite": True}),
        (source / "int8", {}),
        (tmp_path / "out", {"cache": tmp_path / "out" / "cache"}),
        (tmp_path / "out", {"plots": tmp_path / "out"}),
    ):
        with pytest.raises(OptionError, match=r"is in --out|is the bundle .*, or in it"):
            evm_deploy.quantize(source, photographs, out, QuantizeOptions(**options))
    assert sorted(source.rglob("*")) == before
    assert Bundle.open(source).manifest.precision == "fp32"
    assert not (tmp_path / "out").exists()


def test_plots_that_cannot_be_written_are_found_before_calibration(
    networks: Networks, photographs: Photographs, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    said: list[str] = []
    options = QuantizeOptions(plots=tmp_path / "file")
    with pytest.raises((OutputError, MissingToolError)):
        evm_deploy.quantize(networks(), photographs, tmp_path / "out", options, progress=said.append)
    assert not [stage for stage in said if "calibrating" in stage]
    assert (tmp_path / "file").read_text() == "mine"


def test_files_that_were_left_out_are_remarked(networks: Networks, photographs: Photographs, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for index, photograph in enumerate(photographs[:4]):
        Image.fromarray(photograph).save(tmp_path / "data" / f"{index}.png")
    (tmp_path / "data" / "broken.png").write_bytes(b"no image")
    (tmp_path / "data" / "notes.txt").write_text("mine")
    bundle = evm_deploy.quantize(networks(), tmp_path / "data", tmp_path / "out", QuantizeOptions(verify=False)).bundle
    notes = (bundle.manifest.calibration or {})["notes"]
    assert notes[:2] == [
        "1 files could not be read: broken.png",
        "1 files were ignored (no images, or above the class folders): notes.txt",
    ]


def test_a_search_does_not_guess_which_class_is_which(
    networks: Networks, photographs: Photographs, tmp_path: Path
) -> None:
    pairs = [(image, "cat" if index % 2 else "dog") for index, image in enumerate(photographs)]
    with pytest.raises(InputError, match="names 2 classes; the model has 10"):
        evm_deploy.quantize(networks(), pairs, tmp_path / "out", QuantizeOptions(search=True))


def test_an_int8_bundle_is_not_quantised_again(
    quantized: Callable[..., Bundle], photographs: Photographs, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="is int8: its values are rounded already"):
        evm_deploy.quantize(quantized().path, photographs, tmp_path / "out")


def test_images_of_one_colour_teach_nothing(networks: Networks, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="all calibration images are of one colour"):
        evm_deploy.quantize(networks(), [np.zeros((64, 64, 3), np.uint8)] * 4, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_one_image_works_and_is_remarked(networks: Networks, photographs: Photographs, tmp_path: Path) -> None:
    result = evm_deploy.quantize(networks(), photographs[:1], tmp_path / "out")
    assert result.bundle.manifest.calibration
    assert "the ranges are those of only 1 images" in result.bundle.manifest.calibration["notes"][0]


def test_weights_that_are_not_numbers_are_named(networks: Networks, photographs: Photographs, tmp_path: Path) -> None:
    float_ = Bundle.open(networks())
    proto = onnx.load(float_.model_path)
    tensor = next(t for t in proto.graph.initializer if t.name.endswith("conv_pw.0.weight"))
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(np.nan), tensor.name))
    with write_bundle(tmp_path / "nan") as draft:
        (draft.path / "model.onnx").write_bytes(proto.SerializeToString())
        draft.write_sample(float_.sample())
        draft.seal(float_.manifest)
    with pytest.raises(BundleError, match="holds NaN or an infinity"):
        evm_deploy.quantize(tmp_path / "nan", photographs, tmp_path / "out")


@pytest.mark.parametrize("count", [0, 1])
def test_a_detector_that_is_prepared_finds_the_same(count: int) -> None:
    def detector(score: float) -> onnx.ModelProto:
        kept = [numpy_helper.from_array(np.tile(np.float32([0, 0, 5, 5]), (count, 1)), "b")]
        kept += [numpy_helper.from_array(np.full(count, score, np.float32), "s")]
        kept += [numpy_helper.from_array(np.zeros(count, np.int64), "l")]
        nodes = [helper.make_node("Identity", [name[0]], [name]) for name in ("boxes", "scores", "labels")]
        types = {"boxes": (TensorProto.FLOAT, [count, 4]), "scores": (TensorProto.FLOAT, [count])}
        types |= {"labels": (TensorProto.INT64, [count])}
        ends = [helper.make_tensor_value_info(name, *each) for name, each in types.items()]
        begin = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 8, 8])
        graph = helper.make_graph(nodes, "toy", [begin], ends, kept)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)

    manifest = SimpleNamespace(outputs=find_task("detection").describe_outputs([(count, 4), (count,), (count,)]))
    manifest.task = "detection"
    bundle: Any = SimpleNamespace(
        manifest=manifest, sample=lambda: SimpleNamespace(input=np.zeros((1, 3, 8, 8), np.float32))
    )
    check_same(ir.from_proto(detector(0.5)), detector(0.5), bundle)
    if count:
        with pytest.raises(CheckFailed, match="preparing the graph changes scores"):
            check_same(ir.from_proto(detector(0.6)), detector(0.5), bundle)
