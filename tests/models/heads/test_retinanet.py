"""RetinaNet against mmdetection: every level of its outputs, and what it detects."""

import dataclasses

import numpy as np
import pytest
import torch

from evm_deploy.models.heads.retinanet import detect
from evm_deploy.models.heads.retinanet.detect import find_detections
from evm_deploy.scan import ops
from evm_deploy.tolerances import GOLDEN_HEAD


@pytest.mark.parametrize("size", ["micro", "tiny", "small", "base"])
def test_the_configuration_is_that_of_the_tensors(golden, retinanet, size):
    shapes = golden.shapes(f"retinanet_{size}")
    with torch.device("meta"):
        config = retinanet.row.infer_config({name: torch.empty(shape) for name, shape in shapes.items()}, None)
        found = retinanet.row.network(config).state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == shapes
    assert (config.num_classes, config.strides) == (7 if size == "micro" else 80, [8, 16, 32, 64, 128])


def worst_output(golden, retinanet, name, network) -> float:
    """The largest relative error over all outputs of all sizes."""
    errors = []
    for h, w in retinanet.sizes("fpn0", name):
        image = golden.image(h, w)
        outputs = {"fpn": network.neck(network.backbone(image))}
        found = network(image)
        outputs |= {"cls": found[:5], "box": found[5:]}
        for what, levels in outputs.items():
            errors += [retinanet.error(f"{name}_{what}{i}_{h}x{w}", x) for i, x in enumerate(levels)]
    assert errors
    return max(errors)


@pytest.mark.parametrize("name", ["micro", "tiny"])
def test_outputs(golden, retinanet, name):
    network = retinanet.build(name)
    assert worst_output(golden, retinanet, name, network) < GOLDEN_HEAD
    assert worst_output(golden, retinanet, name, retinanet.row.fold(network)) < GOLDEN_HEAD


def test_a_lost_carry_is_seen(golden, retinanet, monkeypatch):
    scan = ops.efficient_scan_2d

    def lose_carry(x, *parameters):
        """The second half of the rows is scanned as an image of its own."""
        half = x.shape[1] // 2 // 2 * 2
        return torch.cat([scan(part.contiguous(), *parameters) for part in (x[:, :half], x[:, half:])], 1)

    monkeypatch.setattr("evm_deploy.scan.efficient_scan_2d", lose_carry)
    assert worst_output(golden, retinanet, "micro", retinanet.build("micro")) > 10 * GOLDEN_HEAD


@pytest.mark.parametrize("name", ["micro", pytest.param("tiny", marks=pytest.mark.slow)])
def test_detections(retinanet, list_misses, name):
    network, photos = retinanet.build(name), retinanet.photos(name)
    assert len(photos) == (3 if name == "micro" else 1)
    for photo in photos:
        image = photo.prepare(32)
        assert image.shape[2:] == tuple(photo["padded_hw"])
        assert np.array_equal(image.flatten()[:: int(photo["tensor_stride"])], photo["tensor"])
        found = find_detections(network.config, network(image), photo.image_size)
        assert list_misses(found, photo.expected) == []


@pytest.fixture
def detect_small(retinanet):
    """The detections in the golden photo of which the threshold decides how many there are, by a broken step or not."""
    network = retinanet.build("micro")
    photo = min(retinanet.photos("micro"), key=lambda each: each.shape)

    def run(size=photo.image_size, **changes):
        return find_detections(dataclasses.replace(network.config, **changes), network(photo.prepare(32)), size)

    return run, photo


def test_broken_detections_are_seen(detect_small, list_misses, monkeypatch):
    run, photo = detect_small
    assert not list_misses(run(), photo.expected)
    size = photo.image_size
    assert list_misses(run(size._replace(scale=torch.ones(2))), photo.expected)  # not rescaled
    assert list_misses(run(size._replace(scale=size.scale[:1].expand(2))), photo.expected)  # by one number, not two
    assert list_misses(run(size._replace(input=size.input * 2)), photo.expected)  # not clipped
    with monkeypatch.context() as patch:
        make = detect.make_anchors
        patch.setattr(detect, "make_anchors", lambda cell, *grid: make(cell, *grid) + grid[-1] / 2)
        assert list_misses(run(), photo.expected)  # anchors in the middle of their cells
    assert list_misses(run(ratios=(2.0, 1.0, 0.5)), photo.expected)
    assert list_misses(run(anchor_scale=4.1), photo.expected)


def test_an_image_with_nothing_in_it(retinanet):
    network = retinanet.build("micro")
    network.bbox_head.retina_cls.bias -= 50
    photo = retinanet.photos("micro")[-1]
    found = find_detections(network.config, network(photo.prepare(32)), photo.image_size)
    assert [tuple(each.shape) for each in found] == [(0, 4), (0,), (0,)]
    assert found.labels.dtype == torch.int64


def test_export_gives_what_the_head_gives(golden, retinanet, tmp_path):
    import evm_deploy
    from evm_deploy.errors import OptionError

    path = tmp_path / "detector.pth"
    torch.save({"state_dict": golden.state_dict("retinanet_micro"), "meta": {"epoch": 12}}, path)
    bundle = evm_deploy.export(path, tmp_path / "out", evm_deploy.ExportOptions(image_size=(64, 96), raw=True)).bundle
    strides = (8, 16, 32, 64, 128)
    names = [f"scores{stride}" for stride in strides] + [f"shifts{stride}" for stride in strides]
    assert [spec.name for spec in bundle.manifest.outputs] == names
    assert bundle.manifest.model["backbone_family"] == "EfficientVMamba"
    with pytest.raises(OptionError, match="has no head"):
        evm_deploy.export(retinanet.build("micro").backbone, tmp_path / "none", evm_deploy.ExportOptions(raw=True))
