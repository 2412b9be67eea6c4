"""Detectors and segmenters for images of any size: one graph, its images fitted into a box."""

import dataclasses

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

import evm_deploy
from evm_deploy.errors import OptionError
from evm_deploy.exporters.deployed import build_reference
from evm_deploy.manifest import Manifest
from evm_deploy.models.heads.detections import Detections
from evm_deploy.models.network import open_checkpoint
from evm_deploy.preprocessing import preprocess
from evm_deploy.runtimes import find_runtime

SCALE = (96, 64)
LOOPS = {"Loop", "Scan", "If", "SequenceMap"}
MOST_NODES = 1500


@pytest.fixture(scope="module")
def bundles(exported):
    """bundles(name): a micro network with its last steps, for any size."""
    return lambda name: exported(f"{name}_micro", image_size=(96, 128), dynamic_size=True, scale=SCALE)


@pytest.fixture(scope="module")
def run_photos(bundles):
    """run_photos(head): of each photo, and its outputs by the one graph."""

    def run(head):
        bundle = bundles(head.name)
        with find_runtime(bundle).open_bundle(bundle, library=True) as runner:
            for photo in head.photos("micro"):
                yield photo, [torch.from_numpy(found) for found in runner.run(photo.prepare().numpy())]

    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", ["retinanet", "mask_rcnn"])
def test_boxes_of_photos_of_all_sizes(request, run_photos, bundles, list_misses, name):
    head = request.getfixturevalue(name)
    for photo, (boxes, scores, labels, *_) in run_photos(head):
        found = Detections(boxes / photo.image_size.scale.repeat(2), scores, labels)
        assert list_misses(found, photo.expected) == [], photo.size
    graph = onnx.load(bundles(head.name).model_path).graph
    assert len(graph.node) <= MOST_NODES
    assert not {node.op_type for node in graph.node} & LOOPS


@pytest.mark.slow
def test_classes_of_photos_of_all_sizes(upernet, bundles, run_photos):
    bundle = bundles("upernet")
    network = open_checkpoint(bundle.path.parent / bundle.manifest.checkpoint.file)
    reference = build_reference(network, bundle.manifest)
    for photo, (found,) in run_photos(upernet):
        with torch.inference_mode():
            (expected,) = reference(photo.prepare())
        assert found.shape == (1, *photo.size)
        assert (found != expected).float().mean() < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1, 2000), (2000, 1), (40, 56), (1500, 2000)])
def test_images_of_any_size_are_fitted_into_the_scale(retinanet, bundles, list_misses, tmp_path, size):
    bundle = bundles("retinanet")
    assert bundle.manifest.inputs[0].shape == (1, 3, "height", "width")
    assert bundle.manifest.preprocessing.scale == SCALE
    photo = next(each for each in retinanet.photos("micro") if each.shape == (40, 56))
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(photo.pixels if size == photo.shape else pixels).save(tmp_path / "image.png")
    (one,) = evm_deploy.predict(bundle.path, tmp_path / "image.png")
    things = one.findings.things
    boxes, scores, labels = ([getattr(each, name) for each in things] for name in ("box", "score", "index"))
    boxes = torch.tensor(boxes).reshape(-1, 4)
    assert (boxes >= 0).all()
    assert (boxes <= torch.tensor([*size[::-1], *size[::-1]]) + 1e-3).all()
    if size == photo.shape:
        found = Detections(boxes.float(), torch.tensor(scores), torch.tensor(labels))
        assert list_misses(found, photo.expected) == []


@pytest.mark.slow
def test_the_smallest_maps(retinanet, bundles):
    """Of images of 1 to 33 pixels: maps of one cell, and fewer places than are taken of a level."""
    bundle = bundles("retinanet")
    network = open_checkpoint(bundle.path.parent / bundle.manifest.checkpoint.file)
    reference = build_reference(network, bundle.manifest)
    with find_runtime(bundle).open_bundle(bundle, library=True) as runner:
        for size in ((1, 1), (33, 2), (31, 65)):
            image = np.random.default_rng(0).standard_normal((1, 3, *size)).astype(np.float32)
            with torch.inference_mode():
                expected = Detections(*reference(torch.from_numpy(image)))
            found = Detections(*map(torch.from_numpy, runner.run(image)))
            assert len(found.boxes) == len(expected.boxes)
            torch.testing.assert_close(found.scores, expected.scores, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_the_scale_stands_in_the_manifest_where_there_is_one(bundles, exported):
    manifest = bundles("retinanet").manifest
    assert '"scale"' in manifest.to_json()
    assert Manifest.from_json(manifest.to_json().encode()) == manifest
    assert '"scale"' not in exported("digits").manifest.to_json()  # loaders refuse what they do not know
    said = manifest.preprocessing
    for changes in ({"scale": (64, 96)}, {"scale": (96, 8)}, {"resize": "cover", "interpolation": "bilinear"}):
        with pytest.raises(ValueError, match="scale"):
            dataclasses.replace(said, **changes)


@pytest.mark.slow
def test_an_image_is_prepared_unpadded(bundles, retinanet):
    photo = next(each for each in retinanet.photos("micro") if each.shape == (40, 56))
    found = preprocess(photo.pixels, bundles("retinanet").manifest.preprocessing)
    torch.testing.assert_close(torch.from_numpy(found), photo.prepare(), rtol=0, atol=1e-5)


PIPELINE = "test_pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale={}, keep_ratio={})]\n"


@pytest.mark.parametrize(
    ("written", "options", "expected"),
    [
        ("", {}, (1333, 800)),
        (PIPELINE.format("(640, 400)", True), {}, (640, 400)),
        (PIPELINE.format("(400, 640)", True), {}, (640, 400)),
        (PIPELINE.format("(640, 400)", False), {}, (1333, 800)),
        (PIPELINE.format("(640, 4)", True), {}, (1333, 800)),
        (PIPELINE.format("[(640, 400), (320, 200)]", True), {}, (1333, 800)),
        (PIPELINE.format("(640, 400)", True), {"scale": (512, 320)}, (512, 320)),
    ],
)
def test_the_scale_is_that_of_the_options_else_of_the_file(golden, tmp_path, written, options, expected):
    from evm_deploy.exporters.record import make_manifest

    path = tmp_path / "named.pth"
    torch.save({"state_dict": golden.state_dict("retinanet_micro"), "meta": {"cfg": written}}, path)
    manifest = make_manifest(open_checkpoint(path), evm_deploy.ExportOptions(dynamic_size=True, **options))
    assert manifest.preprocessing.scale == expected


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"scale": (96, 64)}, "--scale 96x64 is for models of any size"),
        ({"scale": (64, 96), "dynamic_size": True}, "no long and short side"),
        ({"scale": (96, 64), "dynamic_size": True, "raw": True}, "is for detectors and segmenters, with their last"),
    ],
)
def test_a_scale_that_cannot_be_is_refused(golden, tmp_path, options, said):
    torch.save({"state_dict": golden.state_dict("retinanet_micro")}, tmp_path / "a.pth")
    with pytest.raises(OptionError, match=said):
        evm_deploy.export(tmp_path / "a.pth", tmp_path / "out", evm_deploy.ExportOptions(**options))
    assert not (tmp_path / "out").exists()
