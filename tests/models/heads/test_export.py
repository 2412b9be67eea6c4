"""Detectors and segmenters as one graph from image to results, which the gate lets through only where it is right."""

import shutil

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

import evm_deploy
from evm_deploy.bundle import Draft
from evm_deploy.errors import OptionError, OutputError
from evm_deploy.evaluation.evaluate_options import Scales
from evm_deploy.evaluation.several_scales import make_passes
from evm_deploy.exporters.deployed import build_reference
from evm_deploy.models.heads.boxes import make_anchors
from evm_deploy.models.heads.detections import Detections
from evm_deploy.models.heads.mask_rcnn.network import BoxHead
from evm_deploy.models.heads.upernet.label import average_probabilities
from evm_deploy.models.network import open_checkpoint
from evm_deploy.profiling.profile_options import ProfileOptions
from evm_deploy.runtimes import find_runtime
from evm_deploy.tasks.matching import match_boxes
from evm_deploy.tolerances import GOLDEN_MASK
from evm_deploy.verification.artifact import NOTHING_FOUND, verify_against_model
from evm_deploy.verification.given import GIVEN
from evm_deploy.verification.images import make_verification_images


@pytest.fixture(scope="module")
def bundles(exported):
    """bundles(name): a micro network with its last steps, of the size of its smallest photo, verified."""
    return lambda name, size: exported(f"{name}_micro", image_size=size, verify=True)


@pytest.fixture
def smallest():
    return lambda head: min(head.photos("micro"), key=lambda photo: photo.size)


def network_of(bundle):
    return open_checkpoint(bundle.path.parent / bundle.manifest.checkpoint.file)


def check_again(bundle, network=None):
    """The report of the gate, and the outputs that it failed on."""
    network = network or network_of(bundle)
    report = verify_against_model(bundle, network, make_verification_images(bundle.manifest, None))
    return {row.output for row in report.rows if not row.passed}


def run(bundle, photo, *, library=False):
    with find_runtime(bundle).open_bundle(bundle, library=library) as runner:
        return [torch.from_numpy(found) for found in runner.run(photo.prepare().numpy())]


@pytest.fixture
def show(tmp_path):
    """show(bundle, photo): what predict says of the photo, a file, and draws."""

    def run(bundle, photo, **options):
        Image.fromarray(photo.pixels).save(tmp_path / "photo.png")
        (one,) = evm_deploy.predict(bundle.path, tmp_path / "photo.png", **options)
        return one

    return run


def list_found(prediction):
    things = prediction.findings.things
    boxes, scores, labels = ([getattr(each, name) for each in things] for name in ("box", "score", "index"))
    return Detections(torch.tensor(boxes), torch.tensor(scores), torch.tensor(labels))


def test_predict_shows_boxes(retinanet, bundles, smallest, list_misses, show, tmp_path):
    photo = smallest(retinanet)
    one = show(bundles("retinanet", photo.size), photo, save=tmp_path / "drawn")
    assert list_misses(list_found(one), photo.expected) == []
    first = one.findings.to_dict()["detections"][0]
    x0, y0, x1, y1 = photo["boxes"][0].tolist()
    assert first["bbox"] == pytest.approx([x0, y0, x1 - x0, y1 - y0], abs=0.05)
    assert first["label"] == f"class {first['category_id']}"
    (drawn,) = one.saved
    assert (np.asarray(Image.open(drawn)) != photo.pixels).any()
    with pytest.raises(OutputError, match="exists"):
        show(bundles("retinanet", photo.size), photo, save=tmp_path / "drawn")


@pytest.mark.parametrize("size", [(1, 2000), (2000, 1), (40, 56), (1500, 2000)])
def test_boxes_lie_within_images_of_any_size(retinanet, bundles, smallest, tmp_path, size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    (one,) = evm_deploy.predict(bundles("retinanet", smallest(retinanet).size).path, tmp_path / "image.png")
    boxes = list_found(one).boxes
    assert 0 < len(boxes) <= 100
    assert (boxes >= 0).all()
    assert (boxes <= torch.tensor([*size[::-1], *size[::-1]]) + 1e-3).all()


@pytest.mark.slow
def test_classes_have_the_names_of_the_checkpoint(golden, tmp_path):
    path, names = tmp_path / "named.pth", tuple("abcdefg")
    meta = {"dataset_meta": {"classes": names}}
    torch.save({"state_dict": golden.state_dict("retinanet_micro"), "meta": meta}, path)
    options = evm_deploy.ExportOptions(image_size=(64, 64), verify=False)
    assert evm_deploy.export(path, tmp_path / "out", options).bundle.labels() == names


def test_predict_shows_masks(mask_rcnn, bundles, smallest, list_misses, show, tmp_path):
    photo = smallest(mask_rcnn)
    one = show(bundles("maskrcnn", photo.size), photo, save=tmp_path / "drawn")
    assert list_misses(list_found(one), photo.expected) == []
    count, *size = photo["masks_shape"].tolist()
    packed = np.unpackbits(photo["masks_packed"])
    first = packed[: count * size[0] * size[1]].reshape(count, *size).astype(bool)
    expected = (photo["boxes"][:count], photo["labels"][:count])
    found = list_found(one)
    matches = match_boxes((found.boxes.numpy(), found.labels.numpy()), expected)
    assert len(matches.found) == count
    for i, j in zip(matches.found, matches.expected, strict=True):
        mask = one.findings.things[i].mask
        assert (mask & first[j]).sum() >= GOLDEN_MASK * (mask | first[j]).sum()
    assert one.findings.to_dict()["detections"][0]["segmentation"]["size"] == size


def test_predict_shows_classes(upernet, bundles, smallest, show, tmp_path):
    photo = smallest(upernet)
    one = show(bundles("upernet", photo.size), photo, save=tmp_path / "drawn")
    assert one.findings.label_map.shape == photo.shape
    assert sum(each["share"] for each in one.findings.to_dict()["classes"]) == pytest.approx(1)
    drawn, classes = one.saved
    assert np.array_equal(np.asarray(Image.open(classes)), one.findings.label_map)
    with Image.open(drawn) as picture:
        assert picture.size == photo.shape[::-1]
    assert (one.findings.label_map == photo["labels"]).mean() > 0.95  # resized once, and to the nearest


def test_boxes_of_a_photo(retinanet, bundles, smallest, list_misses):
    photo = smallest(retinanet)
    bundle = bundles("retinanet", photo.size)
    assert bundle.manifest.task == "detection"
    assert [(s.name, s.shape, s.dtype) for s in bundle.manifest.outputs] == [
        ("boxes", ("found", 4), "float32"),
        ("scores", ("found",), "float32"),
        ("labels", ("found",), "int64"),
    ]
    for library in (False, True):
        boxes, *others = run(bundle, photo, library=library)
        assert list_misses(Detections(boxes / photo.image_size.scale.repeat(2), *others), photo.expected) == []
    assert {row["output"] for row in bundle.manifest.parity["rows"]} == {"boxes", "scores", "labels", GIVEN}


def test_masks_of_a_photo(mask_rcnn, bundles, smallest, list_misses):
    photo = smallest(mask_rcnn)
    bundle = bundles("maskrcnn", photo.size)
    assert bundle.manifest.outputs[3].shape == ("found", 28, 28)
    boxes, *others, masks = run(bundle, photo)
    assert list_misses(Detections(boxes / photo.image_size.scale.repeat(2), *others), photo.expected) == []
    assert masks.shape == (len(boxes), 28, 28)


def test_classes_of_pixels(upernet, bundles, smallest):
    photo = smallest(upernet)
    bundle = bundles("upernet", photo.size)
    assert bundle.manifest.outputs[0].shape == (1, *photo.size)
    (found,) = run(bundle, photo)
    with torch.inference_mode():
        (expected,) = build_reference(network_of(bundle), bundle.manifest)(photo.prepare())
    assert (found != expected).float().mean() < 1e-3


def test_classes_at_several_scales_are_evaluated(upernet, bundles, smallest, tmp_path):
    photo = smallest(upernet)
    bundle, scales = bundles("upernet", photo.size), Scales((0.5,), flip=True)
    passes = make_passes(network_of(bundle), photo.pixels, bundle.manifest.preprocessing, scales)
    expected = average_probabilities(passes, photo.shape)[0].argmax(0).numpy()
    for folder in ("images", "maps"):
        (tmp_path / folder).mkdir()
    Image.fromarray(photo.pixels).save(tmp_path / "images" / "0.png")
    Image.fromarray(expected.astype(np.uint8)).save(tmp_path / "maps" / "0.png")
    options = evm_deploy.EvaluateOptions(
        checkpoint=bundle.path.parent / bundle.manifest.checkpoint.file,
        annotations=tmp_path / "maps",
        multi_scale=scales.ratios,
        flip=True,
        floor=0.999,
        latency_runs=0,
    )
    report = evm_deploy.evaluate(bundle.path, tmp_path / "images", options)
    plain, scaled, other = report.rows
    assert len(report.failures) == 1  # the bundle's
    assert scaled.title == "PyTorch at 0.5 and mirrored"
    assert scaled.figures[1].value == 1  # of the pixels
    assert plain.figures[1].value == other.figures[1].value < 0.99


def test_padding_is_no_part_of_the_image(retinanet, bundles, smallest):
    """Rows and columns of zeros at the end: boxes end before them."""
    photo = smallest(retinanet)
    image = photo.prepare().numpy().copy()
    image[:, :, 40:], image[..., 50:] = 0, 0
    bundle = bundles("retinanet", photo.size)
    with find_runtime(bundle).open_bundle(bundle, library=False) as runner:
        boxes = runner.run(image)[0]
    assert len(boxes)
    assert boxes[:, 2].max() == 50
    assert boxes[:, 3].max() == 40


@pytest.mark.parametrize("name", ["retinanet", "mask_rcnn"])
def test_nothing_in_an_image(request, bundles, smallest, name):
    photo = smallest(request.getfixturevalue(name))
    bundle = bundles(name.replace("_", ""), photo.size)
    shapes = [(0, 4), (0,), (0,), (0, 28, 28)]
    with find_runtime(bundle).open_bundle(bundle, library=False) as runner:
        found = runner.run(np.zeros((1, 3, *photo.size), np.float32))
    assert [each.shape for each in found] == shapes[: len(found)]
    network = network_of(bundle)
    with torch.inference_mode():
        expected = build_reference(network, bundle.manifest)(torch.zeros(1, 3, *photo.size))
    assert [tuple(each.shape) for each in expected] == shapes[: len(expected)]
    report = verify_against_model(bundle, network, {"black": np.zeros((1, 3, *photo.size), np.float32)})
    assert report.passed
    assert NOTHING_FOUND in report.notes


def test_an_anchor_half_a_cell_off_is_seen(retinanet, bundles, smallest, monkeypatch):
    bundle = bundles("retinanet", smallest(retinanet).size)
    place = "evm_deploy.models.heads.retinanet.detect.make_anchors"
    assert check_again(bundle) == set()
    monkeypatch.setattr(place, lambda cell, map, stride: make_anchors(cell + stride / 2, map, stride))
    assert check_again(bundle) >= {"labels"}


def test_a_background_class_that_is_the_first_is_seen(mask_rcnn, bundles, smallest, monkeypatch):
    bundle = bundles("maskrcnn", smallest(mask_rcnn).size)
    right = BoxHead.forward

    def swap(self, pooled):
        logits, shifts = right(self, pooled)
        return logits.roll(1, 1), shifts

    monkeypatch.setattr(BoxHead, "forward", swap)
    assert check_again(bundle) >= {"labels"}


def test_what_the_head_gives_is_compared_too(retinanet, bundles, smallest):
    """A shift of 1e-3 of a logit changes no box."""
    bundle = bundles("retinanet", smallest(retinanet).size)
    network = network_of(bundle)
    network.module.bbox_head.retina_cls.bias.data[0] += 5e-3
    assert check_again(bundle, network) >= {GIVEN}


def test_a_lost_carry_is_seen(retinanet, bundles, smallest, tmp_path):
    """The states that enter each chunk of the scan are nothing."""
    bundle = bundles("retinanet", smallest(retinanet).size)
    shutil.copytree(bundle.path, tmp_path / "broken")
    proto = onnx.load(bundle.model_path)
    body = next(body for body in proto.functions if body.name == "SelectiveScan")
    cut = next(n for n in reversed(body.node) if n.op_type == "Slice" and n.input[0].startswith("pad"))
    for node in body.node:
        node.input[:] = ["nothing" if name == cut.output[0] else name for name in node.input]
    nothing = onnx.helper.make_node("Sub", [cut.output[0]] * 2, ["nothing"])
    body.node.insert(list(body.node).index(cut) + 1, nothing)
    onnx.save(proto, tmp_path / "broken" / "model.onnx")
    broken = Draft(tmp_path / "broken").seal(bundle.manifest)
    network = network_of(bundle)
    report = verify_against_model(broken, network, make_verification_images(broken.manifest, None))
    assert not report.passed


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dynamic_batch": True}, "a detector is not written with --dynamic-batch"),
        ({"dynamic_size": True, "target": "tensorrt"}, "--dynamic-size"),
        ({"bake_preprocessing": True}, "is baked into ONNX graphs for images of any size alone"),
        ({"target": "coreml", "more_sizes": ((96, 96),), "deployment_target": "iOS18"}, "of several image sizes"),
        ({"mean": (0.0, 0.0, 0.2)}, "pixels of the mean, 0 0 0.2, which cannot be told from padding"),
        ({"crop_pct": 0.9}, "--crop-pct is for classifiers"),
        ({"softmax": True}, "a detector has no scores to make probabilities of"),
        ({"task": "classification"}, "RetinaNet is a detector"),
    ],
)
def test_what_is_not_there_is_said(bundles, retinanet, smallest, tmp_path, options, said):
    bundle = bundles("retinanet", smallest(retinanet).size)
    checkpoint = bundle.path.parent / bundle.manifest.checkpoint.file
    with pytest.raises(OptionError, match=said):
        evm_deploy.export(checkpoint, tmp_path / "out", evm_deploy.ExportOptions(**options))
    assert not list(tmp_path.iterdir())


def test_profile_times_it(bundles, retinanet, smallest):
    report = evm_deploy.profile(
        bundles("retinanet", smallest(retinanet).size).path, ProfileOptions(iterations=2, warm_up=1)
    )
    (result,) = report.results
    assert result.error is None
    assert result.golden.passed
