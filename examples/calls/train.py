"""Trains a small network on faint calls, and writes what `evm-deploy export` and `predict` take."""

import argparse
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from data import CLASSES, HELD_OUT, LABELS, PREPROCESSING, draw, model_inputs
from evaluate import report
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from evm_deploy.models import EfficientVMamba, ModelConfig, count_parameters
from evm_deploy.models.vmamba.config import VMambaConfig
from evm_deploy.models.vmamba.network import VMamba
from evm_deploy.runtimes.pytorch import TorchRunner

# Four states a channel train five times as fast as sixteen, on a CPU and without a kernel for the gradient.
DIMS, DEPTHS, STATES = (16, 32, 64, 128), (1, 1, 1, 1), 4
V2 = {"d_inner": DIMS, "gate": False, "conv_bias": False, "mlp": 4, "stem": "3x3 twice", "downsample": "3x3"}
SEED, BATCH = 0, 32
LISTENED = 50  # the last steps, whose answers say whether the notes are told apart


@dataclass(frozen=True)
class Recipe:
    """A network and how it is trained.

    The notes start `boost` times as loud. Once the share `right` of them is told apart, they fade, within the share
    `fade` of the steps, to as faint as they are: linearly with `slowing` 1, ever more slowly with more.
    """

    network: Callable[[], nn.Module]
    learning_rate: float
    boost: float
    right: float
    fade: float = 0.3
    slowing: int = 1


RECIPES = {
    "calls": Recipe(
        lambda: EfficientVMamba(ModelConfig(DIMS, DEPTHS, d_state=STATES, num_classes=CLASSES)), 3e-3, 6.0, 0.0
    ),
    # A norm before every layer hides how loud a note is: this one takes longer to hear any.
    "vmamba": Recipe(
        lambda: VMamba(VMambaConfig(DIMS, DEPTHS, d_state=1, num_classes=CLASSES, **V2)),
        *(6e-4, 12.0, 0.7),
        fade=0.5,
        slowing=3,
    ),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains, writes, and prints the accuracy on the held-out calls after the last step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=RECIPES, default="calls", help="calls is an EfficientVMamba")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint, the labels and the images")
    parser.add_argument("--images", type=int, default=80_000, help="how many are drawn, each seen once")
    parser.add_argument("--held-out", type=int, default=HELD_OUT)
    options = parser.parse_args(arguments)

    start = time.perf_counter()
    torch.manual_seed(SEED)
    model = train(RECIPES[options.network], options.images // BATCH)
    save(model, options.out, options.network)
    write_examples(options.out / "images")
    report(TorchRunner(model), PREPROCESSING, BATCH, options.held_out)
    print(f"{count_parameters(model)} parameters, {time.perf_counter() - start:.0f} s")


def train(recipe: Recipe, steps: int) -> nn.Module:
    """The network after the last step, in eval mode; nothing is chosen by looking at the held-out calls."""
    model = recipe.network()
    with torch.no_grad():  # filters that see no flat grey hear the faint notes at once: the start is far shorter
        first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
        first.weight -= first.weight.mean((1, 2, 3), keepdim=True)
    optimizer = torch.optim.AdamW(model.parameters(), recipe.learning_rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=steps, pct_start=0.08)
    faded, losses, right = 0, [], deque([0.0] * LISTENED, LISTENED)
    for step in range(steps):
        if faded or sum(right) / LISTENED >= recipe.right:
            faded += 1
        left = max(0.0, 1 - max(0, faded - 1) / (recipe.fade * steps))
        boost = 1 + (recipe.boost - 1) * left**recipe.slowing
        images, labels = map(torch.from_numpy, draw_inputs(step, boost))
        scores = model(images)
        loss = F.cross_entropy(scores, labels)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        right.append((scores.argmax(1) == labels).float().mean().item())
        if (step + 1) % 100 == 0:
            heard = f"{sum(right) / LISTENED:.0%} right of notes {boost:.1f} times as loud"
            print(f"step {step + 1} of {steps}: loss {sum(losses) / 100:.3f}, {heard}", flush=True)
            losses.clear()
    return model.eval()


def draw_inputs(step: int, boost: float) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The images (B, 3, 96, 96) and labels (B,) of a step."""
    images, labels = draw("training", BATCH, start=step * BATCH, boost=boost)
    return model_inputs(images), labels


def save(model: nn.Module, out: Path, name: str) -> None:
    """The checkpoint, named after the network, and `labels.txt`."""
    out.mkdir(parents=True, exist_ok=True)
    about = {
        "format": "pt",
        "description": f"{type(model).__name__} trained on drawn spectrograms of faint two-note calls",
        "image_size": "x".join(map(str, PREPROCESSING.image_size)),
        "parameters": str(count_parameters(model)),
    }
    save_file(model.state_dict(), out / f"{name}.safetensors", about)
    (out / "labels.txt").write_text("".join(f"{label}\n" for label in LABELS))


def write_examples(out: Path) -> None:
    """The first held-out call of each class."""
    out.mkdir(exist_ok=True)
    for i, image in enumerate(draw("held-out", CLASSES)[0]):
        Image.fromarray(image).save(out / f"held_out_{i:02}_is_{LABELS[i]}.png")


if __name__ == "__main__":
    main()
