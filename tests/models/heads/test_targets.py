"""Detectors and segmenters for Core ML and TensorRT: what these lack the operators for is a graph beside the model."""

import dataclasses
import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

import evm_deploy
from evm_deploy.bundle import Bundle, Draft
from evm_deploy.errors import BundleError, OptionError
from evm_deploy.models.network import open_checkpoint
from evm_deploy.packaging.ios import ONNXRUNTIME, ONNXRUNTIME_URL
from evm_deploy.packaging.package_options import PackageOptions
from evm_deploy.runtimes import find_runtime
from evm_deploy.runtimes.coreml import open_evaluator
from evm_deploy.runtimes.mil.describe import describe
from evm_deploy.tasks.detection import DETECTION
from evm_deploy.tolerances import find_tolerance
from evm_deploy.verification.artifact import verify_against_model
from evm_deploy.verification.given import GIVEN
from evm_deploy.verification.images import make_verification_images

LAST_STEPS = "last_steps.onnx"


@pytest.fixture(scope="module")
def retinanet(exported):
    """For Core ML, in float16, verified."""
    pytest.importorskip("coremltools")
    return exported("retinanet_micro", target="coreml", precision="fp16", image_size=(64, 96), verify=True)


@pytest.fixture
def remake(retinanet, tmp_path):
    """remake(change): the bundle after a change of the graph that follows the model, its hash in the manifest."""

    def make(change):
        shutil.copytree(retinanet.path, tmp_path / "changed")
        path = tmp_path / "changed" / LAST_STEPS
        proto = onnx.load(path)
        change(proto)
        onnx.save(proto, path)
        return Draft(tmp_path / "changed").seal(retinanet.manifest)

    return make


def check_again(bundle, origin):
    network = open_checkpoint(origin.path.parent / origin.manifest.checkpoint.file)
    report = verify_against_model(bundle, network, make_verification_images(bundle.manifest, None))
    return {row.output for row in report.rows if not row.passed}


def test_what_follows_the_model_is_a_graph_beside_it(retinanet):
    steps = retinanet.manifest.last_steps
    assert steps.file == LAST_STEPS
    assert LAST_STEPS in retinanet.manifest.files
    assert [spec.name for spec in retinanet.manifest.outputs] == ["boxes", "scores", "labels"]
    assert [spec.name for spec in steps.given][:2] == ["scores8", "scores16"]
    kinds = {node.op_type for node in onnx.load(retinanet.path / LAST_STEPS).graph.node}
    assert "NonMaxSuppression" in kinds
    assert "Conv" not in kinds
    assert {row["output"] for row in retinanet.manifest.parity["rows"]} == {"boxes", "scores", "labels", GIVEN}
    assert retinanet.manifest.parity["scans"]["compared"] > 0


def test_predict_and_verify_run_both(retinanet, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    (one,) = evm_deploy.predict(retinanet.path, tmp_path / "image.png")
    assert 0 < len(one.findings.things) <= 100
    assert evm_deploy.verify(retinanet.path).passed


def test_a_package_for_ios_runs_both(retinanet, tmp_path):
    """The Swift is not compiled here: its package has what it runs, and gives the graph its inputs by these names."""
    made = evm_deploy.package(retinanet.path, tmp_path / "package", PackageOptions(platform="ios", name="Rings"))
    folder = tmp_path / "package" / made.index.models["retinanet_micro"].folder
    assert made.index.tools["onnxruntime"] == ONNXRUNTIME
    text = (tmp_path / "package/Package.swift").read_text()
    assert f'dependencies: [.package(url: "{ONNXRUNTIME_URL}", exact: "{ONNXRUNTIME}")],' in text
    assert 'dependencies: [.product(name: "onnxruntime", package: "onnxruntime-swift-package-manager")]' in text
    assert '.macOS("14.0")' in text  # the first that this runs on
    readme = (tmp_path / "package/README.md").read_text()
    assert "runner.find(image)" in readme
    assert f"onnxruntime {ONNXRUNTIME}" in readme
    bundle = Bundle.open(folder)
    image, expected = (
        np.load(folder / "sample/input.npy"),
        [np.load(folder / f"sample/output{i}.npy") for i in range(3)],
    )
    with open_evaluator(bundle) as runner:
        given = runner.run(image)
    names = [spec.name for spec in (*bundle.manifest.inputs, *bundle.manifest.last_steps.given)]
    session = onnxruntime.InferenceSession((folder / LAST_STEPS).read_bytes(), providers=["CPUExecutionProvider"])
    found = session.run([spec.name for spec in bundle.manifest.outputs], dict(zip(names, (image, *given), strict=True)))
    rows = DETECTION.compare(found, expected, bundle.manifest.outputs, find_tolerance(bundle.manifest))
    assert all(row.passed for row in rows)
    with pytest.raises(OptionError, match="linux accepts onnx"):
        evm_deploy.package(retinanet.path, tmp_path / "linux", PackageOptions(platform="linux"))


def test_a_change_of_what_follows_is_seen(retinanet, remake):
    """The least score, an input of the suppression, is another."""

    def change(proto):
        suppress = next(node for node in proto.graph.node if node.op_type == "NonMaxSuppression")
        (least,) = (each for each in proto.graph.initializer if each.name == suppress.input[4])
        least.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(least) + np.float32(0.3), least.name))

    assert check_again(retinanet, retinanet) == set()
    assert check_again(remake(change), retinanet) == {"labels"}


def test_a_graph_with_other_outputs_is_refused(remake):
    def change(proto):
        del proto.graph.output[2]

    bundle = remake(change)
    with pytest.raises(BundleError, match=r"what follows the model in .* is not what its manifest says"):
        find_runtime(bundle).open_bundle(bundle, library=False)


def test_a_graph_that_is_not_listed_or_was_replaced_is_refused(retinanet, tmp_path):
    shutil.copytree(retinanet.path, tmp_path / "other")
    bundle = Bundle.open(tmp_path / "other")
    (tmp_path / "other" / LAST_STEPS).write_bytes(b"")
    with pytest.raises(BundleError, match="was replaced while it was read"):
        bundle.read_last_steps()
    (tmp_path / "other" / LAST_STEPS).unlink()
    with pytest.raises(BundleError, match=f"does not list {LAST_STEPS}"):
        Draft(tmp_path / "other").seal(retinanet.manifest)
    with pytest.raises(ValueError, match="leaves the bundle's folder"):
        dataclasses.replace(retinanet.manifest.last_steps, file="../steps.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", ["retinanet", "maskrcnn", "upernet"])
def test_core_ml(exported, name, precision):
    bundle = exported(f"{name}_micro", target="coreml", precision=precision, image_size=(64, 96), verify=True)
    assert (bundle.manifest.last_steps is None) == (name == "upernet")
    assert bundle.manifest.parity["passed"]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "most"), [("retinanet", 2000), ("upernet", 2000)])
def test_core_ml_of_t(exported, name, most):
    """At 512, in float16."""
    bundle = exported(f"{name}_tiny", target="coreml", precision="fp16", image_size=(512, 512), verify=True)
    program = describe(bundle.model_path)
    assert program["largest_rank"] <= 5
    assert bundle.manifest.build["operations"] <= most


@pytest.mark.slow
@pytest.mark.parametrize("name", ["retinanet_micro", "maskrcnn_micro", "upernet_micro"])
def test_engines(exported, name):
    pytest.importorskip("tensorrt_rtx")
    bundle = exported(name, target="tensorrt", precision="fp16", image_size=(64, 96), verify=True)
    assert bundle.manifest.build["engine"]
    assert bundle.manifest.parity["passed"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["retinanet_tiny", "upernet_tiny"])
def test_engines_of_t(exported, name):
    """At 512, in float16."""
    pytest.importorskip("tensorrt_rtx")
    bundle = exported(name, target="tensorrt", precision="fp16", image_size=(512, 512), verify=True)
    assert bundle.manifest.build["engine"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["retinanet_micro", "maskrcnn_micro", "upernet_micro"])
def test_openvino_runs_the_whole_graph(exported, name):
    pytest.importorskip("openvino")
    bundle = exported(name, target="openvino", image_size=(64, 96), verify=True)
    assert bundle.manifest.last_steps is None
    assert "openvino" in {row["runtime"] for row in bundle.manifest.parity["rows"]}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["retinanet_micro", "maskrcnn_micro", "upernet_micro"])
def test_float16_by_onnxruntime(exported, name):
    bundle = exported(name, precision="fp16", image_size=(64, 96), verify=True)
    assert evm_deploy.verify(bundle.path).passed
