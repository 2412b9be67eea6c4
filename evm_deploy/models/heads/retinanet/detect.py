"""From the outputs of a RetinaNet to detections, as mmdetection does it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from evm_deploy.models.heads.boxes import decode_boxes, have_area, make_anchors, make_cell_anchors
from evm_deploy.models.heads.detections import IMPOSSIBLE, Detections, ImageSize, find_best, flatten_map
from evm_deploy.models.heads.retinanet.config import RATIOS, RetinaNetConfig
from evm_deploy.models.heads.suppression import suppress_by_group


def find_detections(config: RetinaNetConfig, outputs: Sequence[Tensor], size: ImageSize) -> Detections:
    """The detections in one image, in pixels of the original, of the network's outputs for it (batch 1)."""
    said, count = config.detection, len(outputs) // 2
    boxes, scores, labels = [], [], []
    for stride, logits, shifts in zip(config.strides, outputs[:count], outputs[count:], strict=True):
        best, places = find_best(flatten_map(logits, config.num_classes).sigmoid().flatten(), said.most_of_level)
        cells = places // config.num_classes
        anchors = make_anchors(make_cell_anchors(stride, config.scales, RATIOS), shifts, stride)
        boxes.append(decode_boxes(anchors[cells], flatten_map(shifts, 4)[cells], size.input))
        scores.append(best)
        labels.append(places % config.num_classes)
    found = Detections(torch.cat(boxes) / size.scale.repeat(2), torch.cat(scores), torch.cat(labels))
    likely = torch.where(have_area(found.boxes), found.scores, found.scores.new_full((), IMPOSSIBLE))
    kept = suppress_by_group(found.boxes, likely, found.labels, said.most_overlap, said.least_score, said.most)
    return Detections(found.boxes[kept], found.scores[kept], found.labels[kept])
