"""From the outputs of a RetinaNet to detections, as mmdetection does it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from evm_deploy.models.heads.boxes import decode_boxes, have_area, make_anchors, make_cell_anchors
from evm_deploy.models.heads.detections import IMPOSSIBLE, Detections, find_candidates
from evm_deploy.models.heads.retinanet.config import RetinaNetConfig
from evm_deploy.models.last_steps import ImageSize
from evm_deploy.regions.suppression import suppress_by_group


def find_detections(config: RetinaNetConfig, outputs: Sequence[Tensor], size: ImageSize) -> Detections:
    """The detections in one image, in pixels of the original, of the network's outputs for it (batch 1)."""
    said, count = config.detection, len(outputs) // 2
    logits, shifts = outputs[:count], outputs[count:]
    levels = zip(config.strides, shifts, strict=True)
    anchors = [
        make_anchors(make_cell_anchors(stride, config.scales, config.ratios), map, stride) for stride, map in levels
    ]
    best = find_candidates(anchors, logits, shifts, said.most_of_level)
    cells = best.places // config.num_classes
    labels = best.places - cells * config.num_classes
    own, moved = best.anchors.index_select(0, cells), best.shifts.index_select(0, cells)
    boxes = decode_boxes(own, moved, size.input) / size.scale.repeat(2)
    scores = torch.where(have_area(boxes), best.scores, best.scores.new_full((), IMPOSSIBLE))
    kept = suppress_by_group(boxes, scores, labels, said.most_overlap, said.least_score, said.most)
    return Detections(*(each.index_select(0, kept) for each in (boxes, scores, labels)))
