"""Detectors and segmenters that take the image as it is decoded: they resize it themselves, to the bit."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image

import evm_deploy
from evm_deploy.exporters.fitting import FITTED, prepend_fitting
from evm_deploy.manifest import Preprocessing
from evm_deploy.models.heads.detections import Detections
from evm_deploy.preprocessing import preprocess
from evm_deploy.runtimes.onnxruntime import OnnxRunner
from evm_deploy.scan import native

SCALE = (96, 64)
LOOPS = {"Loop", "Scan", "If", "SequenceMap"}
MOST_NODES = 1500


@pytest.fixture(scope="module")
def bundles(exported):
    """bundles(name): a micro network that takes pixels, of any size."""
    said = {"image_size": (96, 128), "dynamic_size": True, "scale": SCALE, "bake_preprocessing": True}
    return lambda name: exported(f"{name}_micro", **said)


def run_photos(bundle, head):
    """Of each photo, and what is found in its pixels; the box that it is fitted into is one constant of the graph."""
    for photo in head.photos("micro"):
        model = onnx.load(bundle.model_path)
        (scale,) = (node for node in model.graph.node if node.name.startswith("fit.") and list_doubles(node) == SCALE)
        sides = [float(side) for side in photo.prefix.rpartition("scale")[2].split("x")]
        scale.attribute[0].t.CopyFrom(helper.make_tensor("", TensorProto.DOUBLE, [2], sides))
        with OnnxRunner(model.SerializeToString(), library=native.available()) as runner:
            yield photo, [torch.from_numpy(found) for found in runner.run(photo.pixels[None])]


def list_doubles(node):
    value = node.attribute[0].t if node.op_type == "Constant" else None
    return tuple(value.double_data) if value is not None else ()


@pytest.mark.parametrize("scale", [(96, 64), (333, 200)])
def test_pixels_are_resized_in_the_graph_to_the_bit(scale):
    said = Preprocessing((96, 128), 1.0, "opencv_bilinear", resize="fit", scale=scale)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, "h", "w"]) for name in (FITTED, "found")]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [1, "H", "W", 3])
    nodes = [helper.make_node("Identity", [FITTED], ["found"])]
    graph = helper.make_graph(nodes, "fit", [ends[0], image], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    prepend_fitting(model, "image", said)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    sizes = [(1, 1), (1, 2000), (2000, 1), *np.exp(rng.uniform(0, 7, (20, 2))).astype(int).tolist()]
    for size in sizes:
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        assert np.array_equal(session.run(None, {"image": pixels[None]})[0], preprocess(pixels, said)), size


@pytest.mark.slow
def test_boxes_are_in_pixels_of_photos_of_all_sizes(retinanet, bundles, list_misses, tmp_path):
    bundle = bundles("retinanet")
    assert bundle.manifest.preprocessing.baked
    assert [(spec.shape, spec.dtype) for spec in bundle.manifest.inputs] == [((1, "height", "width", 3), "uint8")]
    for photo, found in run_photos(bundle, retinanet):
        assert list_misses(Detections(*found), photo.expected) == [], photo.shape
    graph = onnx.load(bundle.model_path).graph
    assert len(graph.node) <= MOST_NODES
    assert not {node.op_type for node in graph.node} & LOOPS
    photo = next(each for each in retinanet.photos("micro") if each.shape == (40, 56))
    Image.fromarray(photo.pixels).save(tmp_path / "image.png")
    (one,) = evm_deploy.predict(bundle.path, tmp_path / "image.png")
    boxes = np.array([thing.box for thing in one.findings.things])
    assert np.abs(boxes - photo["boxes"]).max() < 0.02


@pytest.mark.slow
def test_masks_are_over_these_boxes(mask_rcnn, bundles, list_misses):
    bundle = bundles("maskrcnn")
    for photo, (*found, masks) in run_photos(bundle, mask_rcnn):
        assert list_misses(Detections(*found), photo.expected) == [], photo.shape
        assert masks.shape == (len(found[0]), 28, 28)


@pytest.mark.slow
def test_classes_are_those_of_the_framework(upernet, bundles):
    """Logits are resized twice, which they are not where the label map alone is brought to the original's size."""
    bundle = bundles("upernet")
    for photo, (labels,) in run_photos(bundle, upernet):
        assert labels.shape == (1, *photo.shape)
        assert (labels[0].numpy() != photo["labels"]).mean() < 1e-4, photo.shape
