r"""A detector and a segmenter by part, of one image: backbone, neck, head, last steps; ours beside peers' backbones.

python benchmarks/detection.py [--tasks retinanet upernet] [--peers resnet18 ...] [--threads 1] [--rounds 20]
Every backbone has the same neck and head (256 and 512 channels as in mmdetection and mmsegmentation), at the sizes of
the paper's tables: 800x1344 (1333 padded) and 512x512. Each part is a graph of its own in onnxruntime, and is compared
with PyTorch before it is timed, in turns. Weights are those that training starts from, but the last layer of RetinaNet
has the bias that training gives it, so that candidates are few, as in a trained one.
"""

import argparse
import dataclasses
import itertools
import logging
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from peers import import_timm
from rows import save, table
from torch import Tensor, nn

import evm_deploy
from evm_deploy.models import EfficientVMamba, ModelConfig
from evm_deploy.models.families import FAMILIES
from evm_deploy.models.family import FeatureMap
from evm_deploy.models.heads.fpn import FeaturePyramid, PyramidConfig
from evm_deploy.models.heads.retinanet.config import RetinaNetConfig
from evm_deploy.models.heads.retinanet.detect import find_detections
from evm_deploy.models.heads.retinanet.network import RetinaNetHead
from evm_deploy.models.heads.upernet.config import UperNetConfig
from evm_deploy.models.heads.upernet.label import find_labels
from evm_deploy.models.heads.upernet.network import UperNet, UperNetHead, fold_head
from evm_deploy.models.last_steps import ImageSize
from evm_deploy.profiling.agent.timing import compute_quartiles, time_interleaved
from evm_deploy.scan import native
from evm_deploy.tolerances import PARITY

FAMILY = next(family for family in FAMILIES if family.network is EfficientVMamba)
BACKBONE = dataclasses.replace(ModelConfig.variant("tiny"), num_classes=None)
OURS = "EfficientVMamba-T"
PEERS = ("resnet18", "pvt_v2_b0", "swin_tiny_patch4_window7_224")
SIZES = {"retinanet": (800, 1344), "upernet": (512, 512)}
PYRAMID = PyramidConfig(width=256, levels=3, extra=2)
Tensors = tuple[Tensor, ...]


@dataclass(frozen=True)
class Part:
    """A module that takes tensors and gives tensors, and whether it has our operators."""

    name: str
    module: nn.Module
    ours: bool = False


class Listing(nn.Module):
    """A module that takes a list of tensors, as one that takes tensors and gives a tuple."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *given: Tensor) -> Tensors:
        """The module's tensors."""
        found = self.module(given)
        return tuple(found) if isinstance(found, (tuple, list)) else (found,)


class Maps(nn.Module):
    """The last four maps of a backbone of timm, (B, C, h, w)."""

    def __init__(self, backbone: nn.Module, channels_last: bool) -> None:
        super().__init__()
        self.backbone, self.channels_last = backbone, channels_last

    def forward(self, image: Tensor) -> Tensors:
        """(B, 3, H, W) -> the maps."""
        maps = self.backbone(image)[-4:]
        return tuple(map.permute(0, 3, 1, 2).contiguous() if self.channels_last else map for map in maps)


class RetinaNetSteps(nn.Module):
    """The last steps of a RetinaNet, for an image without padding."""

    def __init__(self, config: RetinaNetConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, *given: Tensor) -> Tensors:
        """What the head gives -> boxes, scores, labels."""
        h, w = SIZES["retinanet"]
        return tuple(find_detections(self.config, given, ImageSize(torch.tensor([w, h]).float(), torch.ones(2))))


class UperNetSteps(nn.Module):
    """The last steps of a UperNet."""

    def forward(self, logits: Tensor) -> Tensors:
        """(1, classes, h, w) -> the class of each pixel of the image."""
        return (find_labels(logits, SIZES["upernet"]),)


def main() -> None:
    """Prints a Markdown table for each task, writes benchmarks/results/detection_TASK.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="*", choices=SIZES, default=list(SIZES))
    parser.add_argument("--peers", nargs="*", default=list(PEERS), help="of timm")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    for task in options.tasks:
        image = torch.randn(1, 3, *SIZES[task])
        networks = {name: MAKE[task](body, maps) for name, body, maps in list_backbones(options.peers, image)}
        found = measure(task, networks, image, options.threads, options.rounds)
        print(f"\n{table(found)}", flush=True)
        save(Path(__file__).parent / "results" / f"detection_{task}.json", found, threads=options.threads)


def list_backbones(peers: Sequence[str], image: Tensor) -> list[tuple[str, Part, tuple[FeatureMap, ...]]]:
    """Ours and those of timm: the name, the part, and the maps that it gives."""
    assert FAMILY.list_maps is not None
    folded = FAMILY.fold(FAMILY.network(BACKBONE).eval())
    found = [(OURS, Part("backbone", folded, ours=True), FAMILY.list_maps(BACKBONE))]
    timm = import_timm()
    for name in peers if timm is not None else ():
        swin = name.startswith("swin")  # whose size is fixed, and whose maps are (B, h, w, C)
        model = timm.create_model(name, features_only=True, **({"img_size": tuple(image.shape[2:])} if swin else {}))
        info = zip(model.feature_info.reduction(), model.feature_info.channels(), strict=True)
        maps = tuple(itertools.starmap(FeatureMap, info))[-4:]
        found.append((f"timm {name}", Part("backbone", Maps(model.eval(), swin)), maps))
    return found


def make_retinanet(body: Part, maps: Sequence[FeatureMap]) -> list[Part]:
    """80 classes, nine anchors, towers of four, on these maps."""
    config = RetinaNetConfig(FAMILY.title, BACKBONE, PYRAMID, 80, 9, PYRAMID.width, 4, 4)
    head = RetinaNetHead(config)
    for layer in (head.retina_cls, head.retina_reg):
        nn.init.normal_(layer.weight, std=0.01)
    nn.init.constant_(head.retina_cls.get_parameter("bias"), -math.log((1 - 0.01) / 0.01))
    neck = Part("neck", Listing(FeaturePyramid(PYRAMID, maps)))
    return [body, neck, Part("head", Listing(head)), Part("last steps", RetinaNetSteps(config))]


def make_upernet(body: Part, maps: Sequence[FeatureMap]) -> list[Part]:
    """150 classes, on these maps."""
    network = UperNet(UperNetConfig(FAMILY.title, BACKBONE, 512, 150))
    network.decode_head = UperNetHead(network.config, maps)
    fold_head(network.eval())
    return [body, Part("head", Listing(network.decode_head)), Part("last steps", UperNetSteps())]


MAKE: dict[str, Callable[[Part, Sequence[FeatureMap]], list[Part]]] = {
    "retinanet": make_retinanet,
    "upernet": make_upernet,
}


def measure(
    task: str, networks: dict[str, list[Part]], image: Tensor, threads: int, rounds: int
) -> list[dict[str, object]]:
    """A row for each network: the medians of its parts and their sum, milliseconds."""
    calls: dict[str, Callable[[], object]] = {}
    for name, parts in networks.items():
        given: Tensors = (image,)
        for part in parts:
            for library in [True, False] if part.ours and native.available() else [False]:
                form = f"{name}{', portable' if part.ours and not library else ''}"
                calls[f"{form}/{part.name}"] = prepare(part, given, library, threads)
            with torch.inference_mode():
                given = tuple(part.module(*given))
    medians = {name: compute_quartiles(times)[1] for name, times in time_interleaved(calls, rounds).items()}
    rows = []
    for name in dict.fromkeys(label.split("/")[0] for label in medians):
        own = {part: medians.get(f"{name}/{part}") for part in ("backbone", "neck", "head", "last steps")}
        shared = {part: medians.get(f"{name.split(',')[0]}/{part}") for part in own}
        times = {f"{part} ms": own[part] or shared[part] for part in own}
        rows.append({"task": task, "network": name, **times, "sum ms": sum(t for t in times.values() if t)})
    return rows


def prepare(part: Part, given: Tensors, library: bool, threads: int) -> Callable[[], object]:
    """The run of the part in onnxruntime on these tensors, after it agreed with PyTorch."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if library:
        options.register_custom_ops_library(str(evm_deploy.native_library()))
    proto = evm_deploy.save_onnx(part.module.eval(), given)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feeds = {spec.name: each.numpy() for spec, each in zip(session.get_inputs(), given, strict=True)}
    with torch.inference_mode():
        expected = part.module(*given)
    for want, got in zip(expected, session.run(None, feeds), strict=True):
        agrees = want.shape == got.shape and np.abs(want.numpy() - got).max(initial=0)
        if agrees is False or not agrees <= PARITY["fp32"] * max(1.0, float(np.abs(got).max(initial=0))):
            raise SystemExit(f"{part.name} differs from PyTorch by {agrees}: not timed")
    return lambda: session.run(None, feeds)


if __name__ == "__main__":
    main()
