"""From what a Mask R-CNN proposes to detections and their masks, as mmdetection does it."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from evm_deploy.models.heads.boxes import decode_boxes, have_area, make_anchors, make_cell_anchors
from evm_deploy.models.heads.detections import IMPOSSIBLE, Detections, find_candidates
from evm_deploy.models.heads.mask_rcnn.config import BOX_STD, MASK_SIDE, RATIOS, SCALE, MaskRCNNConfig
from evm_deploy.models.heads.mask_rcnn.network import MaskRCNN, Proposals
from evm_deploy.models.heads.region_pooling import pool_regions
from evm_deploy.models.last_steps import ImageSize
from evm_deploy.regions.suppression import suppress_by_group


class Instances(NamedTuple):
    """What is in one image, and of each detection a mask over its box: (n, h, w), probabilities."""

    detections: Detections
    masks: Tensor


def find_instances(network: MaskRCNN, outputs: Sequence[Tensor], size: ImageSize) -> Instances:
    """What is in one image, in pixels of the original, of the network's outputs for it (batch 1)."""
    proposals = split_outputs(network.config, outputs)
    boxes, _ = find_proposals(network.config, proposals.scores, proposals.shifts, size.input)
    found = find_boxes(network, proposals.levels, boxes, size.input)
    masks = find_masks(network, proposals.levels, found)
    return Instances(found._replace(boxes=found.boxes / size.scale.repeat(2)), masks)


def split_outputs(config: MaskRCNNConfig, outputs: Sequence[Tensor]) -> Proposals:
    """The outputs by their kinds."""
    pooled, count = config.pyramid.levels, len(config.strides)
    scores, shifts = outputs[pooled : pooled + count], outputs[pooled + count :]
    return Proposals(list(outputs[:pooled]), list(scores), list(shifts))


def find_proposals(
    config: MaskRCNNConfig, scores: Sequence[Tensor], shifts: Sequence[Tensor], limit: Tensor
) -> tuple[Tensor, Tensor]:
    """The boxes (n, 4), in pixels of the input, that are most likely something, and how likely (n,), best first."""
    said = config.proposals
    levels = zip(config.strides, shifts, strict=True)
    anchors = [make_anchors(make_cell_anchors(stride, (SCALE,), RATIOS), map, stride) for stride, map in levels]
    best = find_candidates(anchors, scores, shifts, said.most_of_level)
    own, moved = best.anchors.index_select(0, best.places), best.shifts.index_select(0, best.places)
    boxes = decode_boxes(own, moved, limit)
    likely = torch.where(have_area(boxes), best.scores, best.scores.new_full((), IMPOSSIBLE))
    # every score that is possible counts
    kept = suppress_by_group(boxes, likely, best.levels, said.most_overlap, IMPOSSIBLE / 2, said.most)
    return boxes.index_select(0, kept), likely.index_select(0, kept)


def find_boxes(network: MaskRCNN, levels: Sequence[Tensor], proposals: Tensor, limit: Tensor) -> Detections:
    """The detections, in pixels of the input, among the proposals (n, 4)."""
    config, said = network.config, network.config.detection
    pooled = pool_regions(levels, config.pooled_strides, proposals, config.box_side)
    logits, shifts = network.roi_head.bbox_head(pooled)
    scores = logits.softmax(1)[:, :-1]  # (n, classes): the last is that of nothing
    boxes = decode_boxes(proposals[:, None], shifts.reshape(-1, config.box_classes, 4), limit, BOX_STD)
    boxes = boxes.expand(-1, config.num_classes, 4).reshape(-1, 4)
    labels = torch.arange(config.num_classes).expand(scores.shape).reshape(-1)
    score = scores.reshape(-1)
    kept = suppress_by_group(boxes, score, labels, said.most_overlap, said.least_score, said.most)
    return Detections(*(each.index_select(0, kept) for each in (boxes, score, labels)))


def find_masks(network: MaskRCNN, levels: Sequence[Tensor], found: Detections) -> Tensor:
    """The mask of each detection's class over its box, in pixels of the input: (n, h, w), probabilities."""
    config = network.config
    pooled = pool_regions(levels, config.pooled_strides, found.boxes, MASK_SIDE)
    logits = network.roi_head.mask_head(pooled)  # (n, mask classes, h, w)
    if config.mask_classes == 1:
        return logits[:, 0].sigmoid()  # type: ignore[no-any-return]
    own = found.labels[:, None, None, None].expand(-1, 1, *logits.shape[2:])
    return logits.gather(1, own)[:, 0].sigmoid()  # type: ignore[no-any-return]
