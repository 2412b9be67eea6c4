"""Mask R-CNN against mmdetection: its levels, what is pooled from them, its detections and their masks."""

import math

import numpy as np
import pytest
import torch

from evm_deploy.models.heads import region_pooling
from evm_deploy.models.heads.mask_rcnn import detect
from evm_deploy.models.heads.mask_rcnn.detect import find_instances, find_proposals
from evm_deploy.models.heads.pasting import paste_masks
from evm_deploy.models.heads.region_pooling import find_levels, pool_regions
from evm_deploy.regions.alignment import align_regions
from evm_deploy.tolerances import GOLDEN_HEAD, GOLDEN_MASK


@pytest.mark.parametrize("size", ["micro", "tiny", "small", "base"])
def test_the_configuration_is_that_of_the_tensors(golden, mask_rcnn, size):
    shapes = golden.shapes(f"maskrcnn_{size}")
    with torch.device("meta"):
        config = mask_rcnn.row.infer_config({name: torch.empty(shape) for name, shape in shapes.items()}, None)
        found = mask_rcnn.row.network(config).state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == shapes
    assert (config.num_classes, config.strides) == (7 if size == "micro" else 80, [4, 8, 16, 32, 64])
    assert config.pooled_strides == [4, 8, 16, 32]


@pytest.mark.parametrize("name", ["micro", "tiny"])
def test_outputs(golden, mask_rcnn, name):
    whole = mask_rcnn.build(name)
    (size,) = mask_rcnn.sizes("fpn0", name)
    of = f"{size[0]}x{size[1]}"
    errors = {}
    for network in (whole, mask_rcnn.row.fold(whole)):
        levels, scores, shifts = network.propose(golden.image(*size))
        for what, maps in (("fpn", levels), ("rpncls", scores), ("rpnbox", shifts)):
            errors |= {f"{what}{i}": mask_rcnn.error(f"{name}_{what}{i}_{of}", x) for i, x in enumerate(maps)}
        rois = torch.from_numpy(mask_rcnn.arrays[f"{name}_rois_{of}"])[:, 1:]
        strides = network.config.pooled_strides
        found = find_levels(rois, len(strides))
        assert np.array_equal(found, mask_rcnn.arrays[f"{name}_roilevel_{of}"])
        pooled, larger = (pool_regions(levels[: len(strides)], strides, rois, side) for side in (7, 14))
        logits, moved = network.roi_head.bbox_head(pooled)
        masks = network.roi_head.mask_head(larger)
        outputs = {"roifeat7": pooled, "roifeat14": larger, "fccls": logits, "fcreg": moved, "mask": masks}
        errors |= {what: mask_rcnn.error(f"{name}_{what}_{of}", x) for what, x in outputs.items()}
        assert max(errors.values()) < GOLDEN_HEAD, errors


def find_misses(list_misses, photo, network) -> tuple[list[str], float]:
    """What of the golden detections is missed, and the least intersection over union of their masks."""
    found = find_instances(network, network(photo.prepare(32)), photo.image_size)
    misses = list_misses(found.detections, photo.expected)
    covered = paste_masks(found.masks, found.detections.boxes, photo.shape).numpy()
    shape = photo["masks_shape"]
    expected = np.unpackbits(photo["masks_packed"], count=int(np.prod(shape))).reshape(shape).astype(bool)
    if len(covered) < len(expected):
        return misses, 0.0
    ours = covered[: len(expected)]
    common, either = (ours & expected).sum((1, 2)), (ours | expected).sum((1, 2))
    areas = np.abs(covered.sum((1, 2))[: len(photo["mask_areas"])] - photo["mask_areas"])
    misses += [f"mask {i} by {n} pixels" for i, n in enumerate(areas) if n > 7]
    return misses, float(np.where(either > 0, common / np.maximum(either, 1), 1.0).min())


@pytest.mark.parametrize("name", ["micro", pytest.param("tiny", marks=pytest.mark.slow)])
def test_instances(mask_rcnn, list_misses, name):
    network, photos = mask_rcnn.build(name), mask_rcnn.photos(name)
    assert photos
    for photo in photos:
        misses, overlap = find_misses(list_misses, photo, network)
        assert misses == []
        assert overlap >= GOLDEN_MASK


def test_proposals(mask_rcnn):
    network = mask_rcnn.build("micro")
    for photo in mask_rcnn.photos("micro"):
        _, scores, shifts = network.propose(photo.prepare(32))
        boxes, likely = find_proposals(network.config, scores, shifts, photo.image_size.input)
        assert len(boxes) == photo["proposal_count"]
        expected = photo["proposals"]
        distance = np.abs(boxes.numpy()[None, : 2 * len(expected)] - expected[:, None]).max(2)
        assert distance.min(1).max() < 0.02
        assert np.abs(likely[: len(expected)].numpy() - photo["proposal_scores"]).max() < 1e-4


BREAKS = {
    "the background is the first class": ("torch.Tensor.softmax", lambda old: lambda x, axis: old(x, axis).roll(-1, 1)),
    "anchors in the middle of their cells": (
        "evm_deploy.models.heads.mask_rcnn.detect.make_anchors",
        lambda old: lambda cell, map, stride: old(cell, map, stride) + stride / 2,
    ),
    "boxes in units of proposals": ("evm_deploy.models.heads.mask_rcnn.detect.BOX_STD", lambda old: (1, 1, 1, 1)),
    "masks of another class": (
        "evm_deploy.models.heads.mask_rcnn.detect.find_masks",
        lambda old: lambda network, levels, found: old(network, levels, found._replace(labels=(found.labels + 1) % 7)),
    ),
    "pooled without the half cell": (
        "evm_deploy.models.heads.region_pooling.align_regions",
        lambda old: lambda map, boxes, rows, columns, scale, n: old(map, boxes + 0.5 / scale, rows, columns, scale, n),
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_step_is_seen(mask_rcnn, list_misses, monkeypatch, name):
    network = mask_rcnn.build("micro")
    photo = next(each for each in mask_rcnn.photos("micro") if each.size[0] < 200)
    place, breaks = BREAKS[name]
    target = torch.Tensor.softmax if place.startswith("torch") else _look_up(place)
    monkeypatch.setattr(place, breaks(target))
    misses, overlap = find_misses(list_misses, photo, network)
    assert misses or overlap < GOLDEN_MASK


def _look_up(place):
    module, _, name = place.rpartition(".")
    return getattr({"detect": detect, "region_pooling": region_pooling}[module.rpartition(".")[2]], name)


def test_nothing_is_found(mask_rcnn):
    network = mask_rcnn.build("micro")
    network.roi_head.bbox_head.fc_cls.bias[-1] += 1000
    photo = next(each for each in mask_rcnn.photos("micro") if each.size[0] < 200)
    found = find_instances(network, network(photo.prepare(32)), photo.image_size)
    assert [tuple(each.shape) for each in found.detections] == [(0, 4), (0,), (0,)]
    assert paste_masks(found.masks, found.detections.boxes, photo.shape).shape == (0, *photo.shape)


# Pooling of regions


def align_slowly(map, boxes, rows, columns, scale, samples):
    """Point by point, as the definition has it."""
    _, channels, height, width = map.shape

    def look(y, x):
        if not (-1 <= y <= height and -1 <= x <= width):
            return torch.zeros(channels)
        y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
        top, left = int(y), int(x)
        low, right = min(top + 1, height - 1), min(left + 1, width - 1)
        dy, dx = y - top, x - left
        upper = map[0, :, top, left] * (1 - dx) + map[0, :, top, right] * dx
        lower = map[0, :, low, left] * (1 - dx) + map[0, :, low, right] * dx
        return upper * (1 - dy) + lower * dy

    found = torch.zeros(len(boxes), channels, rows, columns)
    for n, (x0, y0, x1, y1) in enumerate((boxes * scale - 0.5).tolist()):
        h, w = (y1 - y0) / rows, (x1 - x0) / columns
        down, across = (samples or math.ceil(side) for side in (h, w))
        for i in range(rows):
            for j in range(columns):
                points = [
                    look(y0 + (i + (a + 0.5) / down) * h, x0 + (j + (b + 0.5) / across) * w)
                    for a in range(down)
                    for b in range(across)
                ]
                if points:
                    found[n, :, i, j] = torch.stack(points).mean(0)
    return found


@pytest.mark.parametrize("form", [align_regions, align_slowly])
def test_pooling_of_regions(mask_rcnn, form):
    maps = torch.from_numpy(np.random.default_rng(5).standard_normal((2, 3, 20, 25)).astype(np.float32))
    rois = torch.from_numpy(mask_rcnn.arrays["op_roi_align_rois"])
    for name, (rows, columns, samples) in {"7_s0.25": (7, 7, 0), "3x5_s0.25_ratio2": (3, 5, 2)}.items():
        expected = torch.from_numpy(mask_rcnn.arrays[f"op_roi_align_{name}"])
        for roi, each in zip(rois, expected, strict=True):
            found = form(maps[int(roi[0])][None], roi[None, 1:], rows, columns, 0.25, samples)
            torch.testing.assert_close(found[0], each, rtol=0, atol=5e-6)


def test_pooling_of_regions_of_every_kind():
    g = torch.Generator().manual_seed(0)
    map = torch.randn(1, 2, 9, 13, generator=g)
    corners = torch.rand(40, 2, 2, generator=g) * torch.tensor([70.0, 50.0]) - 8
    boxes = torch.cat([corners.amin(1), corners.amax(1)], 1)
    boxes[0, 2:] = boxes[0, :2]  # without area
    for samples in (0, 1, 3):
        found = align_regions(map, boxes, 3, 2, 0.25, samples)
        torch.testing.assert_close(found, align_slowly(map, boxes, 3, 2, 0.25, samples), rtol=0, atol=5e-6)
    assert align_regions(map, boxes[:0], 3, 2, 0.25, 0).shape == (0, 2, 3, 2)


def test_regions_come_back_in_their_order():
    levels = [torch.full((1, 1, 256 >> i, 256 >> i), float(i)) for i in range(4)]
    sides = torch.tensor([500.0, 10, 150, 250, 20, 0, 111, 1000])
    boxes = torch.stack([torch.zeros(8), torch.zeros(8), sides, sides], 1)
    found = pool_regions(levels, (4, 8, 16, 32), boxes, 2)[:, 0, 0, 0].round()
    assert found.tolist() == [3, 0, 1, 2, 0, 0, 0, 3]


# Masks over an image


def paste_slowly(mask, box, size):
    """Pixel by pixel, with torch's own sampling of grids."""
    x0, y0, x1, y1 = box.tolist()
    found = torch.zeros(size, dtype=torch.bool)
    for y in range(max(math.floor(y0) - 1, 0), min(math.ceil(y1) + 1, size[0])):
        for x in range(max(math.floor(x0) - 1, 0), min(math.ceil(x1) + 1, size[1])):
            at = [(p + 0.5 - a) / (b - a) * 2 - 1 if b > a else 0.0 for p, a, b in ((x, x0, x1), (y, y0, y1))]
            grid = torch.tensor(at).view(1, 1, 1, 2)
            sampled = torch.nn.functional.grid_sample(mask[None, None], grid, align_corners=False)
            found[y, x] = float(sampled) >= 0.5
    return found


def test_masks_over_boxes_of_every_kind():
    g = torch.Generator().manual_seed(1)
    boxes = torch.tensor([[3.2, 4.1, 17.9, 11.0], [0, 0, 30, 20], [5, 5, 5, 9], [7, 7, 7, 7], [28, 18, 30, 20]])
    masks = torch.rand(len(boxes), 5, 5, generator=g)
    found = paste_masks(masks, boxes, (20, 30))
    for each, mask, box in zip(found, masks, boxes, strict=True):
        assert torch.equal(each, paste_slowly(mask, box, (20, 30)))
    assert found[:, 0, 0].tolist()[2:] == [False] * 3
