"""Trains a small detector or segmenter on scattered shapes, and writes what `evm-deploy export` takes."""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from data import GROUND, SHAPES, SIDE, Scene, draw
from torch import Tensor, nn

from evm_deploy.manifest import Preprocessing
from evm_deploy.models import ModelConfig, count_parameters
from evm_deploy.models.heads.boxes import decode_boxes, make_anchors, make_cell_anchors
from evm_deploy.models.heads.fpn import PyramidConfig
from evm_deploy.models.heads.retinanet.config import RetinaNetConfig
from evm_deploy.models.heads.retinanet.network import RetinaNet
from evm_deploy.models.heads.upernet.config import UperNetConfig
from evm_deploy.models.heads.upernet.network import UperNet
from evm_deploy.preprocessing import preprocess

# One state a channel trains three times as fast as sixteen, on a CPU and without a kernel for the gradient.
BACKBONE = ModelConfig((16, 32, 64, 128), (1, 1, 1, 1), d_state=1, num_classes=None)
SEED, BATCH, LEARNING_RATE = 0, 8, 2e-3
POSITIVE, NEGATIVE = 0.5, 0.4  # overlaps of an anchor and a shape from which, and up to which, it is one or none


def make_detector() -> RetinaNet:
    """A RetinaNet."""
    pyramid = PyramidConfig(48, levels=3, extra=1)
    model = RetinaNet(RetinaNetConfig("EfficientVMamba", BACKBONE, pyramid, len(SHAPES), 9, 48, 2, 2, anchor_scale=2.5))
    for module in model.bbox_head.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.02)
    nn.init.constant_(model.bbox_head.retina_cls.bias, -4.6)  # a shape in one of a hundred anchors
    return model


def make_segmenter() -> UperNet:
    """A UperNet."""
    return UperNet(UperNetConfig("EfficientVMamba", BACKBONE, 32, 1 + len(SHAPES)))


def measure_detector(model: RetinaNet, outputs: Sequence[Tensor], scenes: Sequence[Scene]) -> Tensor:
    """Focal loss of the classes, and the distance of boxes by their overlap, over the anchors of all scenes."""
    config, count = model.config, len(outputs) // 2
    anchors = torch.cat(
        [
            make_anchors(make_cell_anchors(stride, config.scales, config.ratios), level, stride)
            for stride, level in zip(config.strides, outputs[count:], strict=True)
        ]
    )
    batch = len(scenes)
    logits = torch.cat([x.permute(0, 2, 3, 1).reshape(batch, -1, config.num_classes) for x in outputs[:count]], 1)
    shifts = torch.cat([x.permute(0, 2, 3, 1).reshape(batch, -1, 4) for x in outputs[count:]], 1)
    total, positives = logits.new_zeros(()), 0
    for scene, scores, moved in zip(scenes, logits, shifts, strict=True):
        boxes = torch.from_numpy(scene.boxes)
        best, counted = assign(anchors, boxes)
        chosen = best >= 0
        wanted = torch.zeros_like(scores)
        wanted[chosen, torch.from_numpy(scene.classes)[best[chosen]]] = 1
        total = total + measure_focal(scores[counted], wanted[counted])
        decoded = decode_boxes(anchors[chosen], moved[chosen], torch.full((2,), 2.0 * SIDE))
        own = boxes[best[chosen]]
        total = (
            total
            + 2 * (1 - compare_boxes(decoded, own)).sum()
            + F.smooth_l1_loss(moved[chosen], encode_boxes(anchors[chosen], own), beta=0.1, reduction="sum")
        )
        positives += int(chosen.sum())
    return total / max(1, positives)


def assign(anchors: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """The box of each anchor (n,), -1: none; and which anchors count, (n,): those between the limits do not."""
    overlaps = measure_overlaps(anchors, boxes)  # (anchors, boxes)
    most, best = overlaps.max(1)
    best = torch.where(most >= POSITIVE, best, -1)
    best[overlaps.argmax(0)] = torch.arange(len(boxes))  # each shape has the anchor that fits best
    return best, (best >= 0) | (most < NEGATIVE)


def measure_overlaps(one: Tensor, other: Tensor) -> Tensor:
    """Intersection over union of boxes (n, 4) and (m, 4): (n, m)."""
    start = torch.maximum(one[:, None, :2], other[None, :, :2])
    end = torch.minimum(one[:, None, 2:], other[None, :, 2:])
    shared = (end - start).clamp(min=0).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (one, other)]
    return shared / (areas[0][:, None] + areas[1][None] - shared)


def compare_boxes(one: Tensor, other: Tensor) -> Tensor:
    """Generalised intersection over union of pairs of boxes (n, 4): (n,)."""
    shared = (torch.minimum(one[:, 2:], other[:, 2:]) - torch.maximum(one[:, :2], other[:, :2])).clamp(min=0).prod(1)
    hull = (torch.maximum(one[:, 2:], other[:, 2:]) - torch.minimum(one[:, :2], other[:, :2])).prod(1)
    union = (one[:, 2:] - one[:, :2]).prod(1) + (other[:, 2:] - other[:, :2]).prod(1) - shared
    return shared / union.clamp(min=1e-6) - (hull - union) / hull.clamp(min=1e-6)


def encode_boxes(anchors: Tensor, boxes: Tensor) -> Tensor:
    """What `decode_boxes` makes the boxes of."""
    size, wanted = anchors[:, 2:] - anchors[:, :2], boxes[:, 2:] - boxes[:, :2]
    shift = (boxes[:, :2] + boxes[:, 2:] - anchors[:, :2] - anchors[:, 2:]) / 2 / size
    return torch.cat([shift, (wanted / size).log()], 1)


def measure_focal(logits: Tensor, wanted: Tensor) -> Tensor:
    """The focal loss (gamma 2, alpha 0.25), summed."""
    right = torch.where(wanted > 0, logits.sigmoid(), 1 - logits.sigmoid())
    weight = torch.where(wanted > 0, 0.25, 0.75) * (1 - right) ** 2
    return (weight * F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")).sum()


def measure_segmenter(model: UperNet, logits: Tensor, scenes: Sequence[Scene]) -> Tensor:
    """Cross entropy of the pixels."""
    wanted = torch.from_numpy(np.stack([scene.label_map for scene in scenes]).astype(np.int64))
    return F.cross_entropy(F.interpolate(logits, size=(SIDE, SIDE), mode="bilinear", align_corners=False), wanted)


@dataclass(frozen=True)
class Kind:
    """What is trained: its network, loss, classes, the text of its configuration, and for how many steps."""

    make: Callable[[], nn.Module]
    measure: Callable[..., Tensor]
    classes: tuple[str, ...]
    config: str
    steps: int


KINDS = {
    "detector": Kind(
        make_detector,
        measure_detector,
        SHAPES,
        "model = dict(bbox_head=dict(anchor_generator=dict(octave_base_scale=2.5)))\n",
        900,
    ),
    "segmenter": Kind(make_segmenter, measure_segmenter, (GROUND, *SHAPES), "", 2400),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--steps", type=int, help=f"of {BATCH} scenes, each seen once")
    options = parser.parse_args(arguments)

    start = time.perf_counter()
    torch.manual_seed(SEED)
    kind = KINDS[options.kind]
    model = train(kind, options.steps or kind.steps)
    options.out.mkdir(parents=True, exist_ok=True)
    meta = {"dataset_meta": {"classes": kind.classes}, "cfg": kind.config}
    torch.save({"meta": meta, "state_dict": model.state_dict()}, options.out / f"{options.kind}.pth")
    print(f"{count_parameters(model)} parameters, {time.perf_counter() - start:.0f} s")


def train(kind: Kind, steps: int) -> nn.Module:
    """The model after the last step, in eval mode; nothing is chosen by looking at the held-out scenes."""
    model = kind.make().train()
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.1)
    preprocessing, total = Preprocessing((SIDE, SIDE), crop_pct=1.0), 0.0
    for step in range(steps):
        scenes = [draw("training", step * BATCH + i) for i in range(BATCH)]
        images = np.concatenate([preprocess(scene.image, preprocessing) for scene in scenes])
        loss = kind.measure(model, model(torch.from_numpy(images)), scenes)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        total += loss.item()
        if (step + 1) % 50 == 0:
            print(f"step {step + 1} of {steps}: loss {total / 50:.3f}", flush=True)
            total = 0.0
    return model.eval()


if __name__ == "__main__":
    main()
