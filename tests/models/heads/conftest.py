"""Heads against the outputs of mmdetection and mmsegmentation, which the goldens hold."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evm_deploy.keep_ratio import find_size, resize_bilinear
from evm_deploy.models.heads import HEADS
from evm_deploy.models.heads.detections import Detections
from evm_deploy.models.last_steps import ImageSize

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of ImageNet, in levels of 0..255
SAME_BOX = 0.99  # intersection over union


class HeadGolden:
    """The golden outputs of one head, and its networks."""

    def __init__(self, golden: Any, name: str) -> None:
        self.golden, self.name = golden, name
        self.arrays = np.load(Path(__file__).parents[2] / "golden" / f"{name}.npz")
        (self.row,) = (head for head in HEADS if head.title.replace(" ", "").replace("-", "").lower() == name)

    def tensors(self, size: str) -> dict[str, Tensor]:
        """A fresh copy of the weights, without those of training alone."""
        found = self.golden.state_dict(f"{self.name}_{size}")
        return {key: tensor for key, tensor in found.items() if not self.row.unused.match(key)}

    def build(self, size: str) -> nn.Module:
        tensors = self.tensors(size)
        network = self.row.network(self.row.infer_config(tensors, None))
        network.load_state_dict(tensors)
        return network.eval().requires_grad_(False)

    def error(self, key: str, found: Tensor) -> float:
        """The largest difference from a golden output, as a share of its largest value."""
        expected = torch.from_numpy(self.arrays[key])
        if f"{key}_shape" in self.arrays:
            assert list(found.shape) == self.arrays[f"{key}_shape"].tolist()
            found = found.flatten()[:: int(self.arrays[f"{key}_stride"])]
        assert found.shape == expected.shape
        return float((found - expected).abs().max() / expected.abs().max())

    def sizes(self, what: str, network: str) -> list[tuple[int, int]]:
        """The (h, w) of the images with an output `what` of the network "micro" or "tiny"."""
        found = (re.fullmatch(rf"{network}_{what}_(\d+)x(\d+)", name) for name in self.arrays.files)
        return [(int(match[1]), int(match[2])) for match in found if match]

    def photos(self, network: str) -> list["Photo"]:
        """The images that went through the whole of the original, with what was found in them."""
        found = (
            re.fullmatch(rf"({network}_photo_(\d+)x(\d+)_scale(\d+)x(\d+))_input_hw", name)
            for name in self.arrays.files
        )
        return [Photo(self, match[1], *map(int, match.groups()[1:])) for match in found if match]


class Photo:
    """One of them: (h, w), the box that it is resized into, and its golden outputs by name."""

    def __init__(self, head: HeadGolden, prefix: str, height: int, width: int, long: int, short: int) -> None:
        self.head, self.prefix, self.shape = head, prefix, (height, width)
        self.size = find_size(height, width, long, short)
        assert list(self.size) == self["input_hw"].tolist()

    def __getitem__(self, name: str) -> np.ndarray[Any, Any]:
        return self.head.arrays[f"{self.prefix}_{name}"]  # type: ignore[no-any-return]

    def __contains__(self, name: str) -> bool:
        return f"{self.prefix}_{name}" in self.head.arrays

    @property
    def pixels(self) -> np.ndarray[Any, Any]:
        height, width = self.shape
        seed = int(self["seed"]) if "seed" in self else height * 1000 + width
        return self.head.golden.weights.photo(height, width, seed)  # type: ignore[no-any-return]

    def prepare(self, multiple: int = 1) -> Tensor:
        """The network's input, (1, 3, h, w): resized, normalised, and then padded to a multiple."""
        return prepare(self.pixels, self.size, multiple)

    @property
    def image_size(self) -> ImageSize:
        (height, width), (h, w) = self.shape, self.size
        return ImageSize(torch.tensor([w, h], dtype=torch.float32), torch.tensor([w / width, h / height]))

    @property
    def expected(self) -> Detections:
        return Detections(*(torch.from_numpy(self[name]) for name in ("boxes", "scores", "labels")))


def prepare(pixels: np.ndarray[Any, Any], size: tuple[int, int], multiple: int = 1) -> Tensor:
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    image = (torch.from_numpy(resize_bilinear(pixels, size)).permute(2, 0, 1).float() - mean) / std
    h, w = size
    return F.pad(image, (0, -w % multiple, 0, -h % multiple))[None]


def _list_misses(found: Detections, expected: Detections) -> list[str]:
    """What of the expected is not found, by label and place, or found otherwise; and how many too many."""
    x0, y0 = torch.maximum(found.boxes[:, None, :2], expected.boxes[None, :, :2]).unbind(-1)
    x1, y1 = torch.minimum(found.boxes[:, None, 2:], expected.boxes[None, :, 2:]).unbind(-1)
    common = (x1 - x0).clamp(min=0) * (y1 - y0).clamp(min=0)
    areas = [(b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) for b in (found.boxes, expected.boxes)]
    overlap = common / (areas[0][:, None] + areas[1][None] - common)
    overlap[found.labels[:, None] != expected.labels[None]] = 0
    misses = [f"{len(found.boxes)} of {len(expected.boxes)}"] if len(found.boxes) != len(expected.boxes) else []
    left = set(range(len(found.boxes)))
    for i in range(len(expected.boxes)):
        best = max(left, key=lambda each: float(overlap[each, i]), default=None)
        if best is None or overlap[best, i] <= SAME_BOX:
            misses.append(f"box {i} of class {int(expected.labels[i])}")
            continue
        left.discard(best)
        moved = float((found.boxes[best] - expected.boxes[i]).abs().max())
        score = float((found.scores[best] - expected.scores[i]).abs())
        if moved > 0.02 or score > 1e-4:
            misses.append(f"box {i} by {moved:.3g} pixels and {score:.2g} of its score")
    return misses


@pytest.fixture(scope="session")
def retinanet(golden):
    return HeadGolden(golden, "retinanet")


@pytest.fixture(name="list_misses", scope="session")
def list_misses_fixture():
    return _list_misses


@pytest.fixture(scope="session")
def upernet(golden):
    return HeadGolden(golden, "upernet")


@pytest.fixture(scope="session")
def mask_rcnn(golden):
    return HeadGolden(golden, "maskrcnn")
