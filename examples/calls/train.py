"""Trains a small network on faint calls, and writes what `evm-deploy export` and `predict` take."""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from data import CLASSES, HELD_OUT, LABELS, PREPROCESSING, draw, model_inputs
from evaluate import report
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from evm_deploy.models import EfficientVMamba, ModelConfig, count_parameters
from evm_deploy.models.vim.config import VimConfig
from evm_deploy.models.vim.network import Vim
from evm_deploy.models.vmamba.config import VMambaConfig
from evm_deploy.models.vmamba.network import VMamba
from evm_deploy.runtimes.pytorch import TorchRunner

# Four states a channel train five times as fast as sixteen, on a CPU and without a kernel for the gradient.
DIMS, DEPTHS, STATES = (16, 32, 64, 128), (1, 1, 1, 1), 4
V2 = {"d_inner": DIMS, "gate": False, "conv_bias": False, "mlp": 4, "stem": "3x3 twice", "downsample": "3x3"}
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "calls": lambda: EfficientVMamba(ModelConfig(DIMS, DEPTHS, d_state=STATES, num_classes=CLASSES)),
    "vmamba": lambda: VMamba(VMambaConfig(DIMS, DEPTHS, d_state=1, num_classes=CLASSES, **V2)),
    "vim": lambda: Vim(VimConfig(64, 6, (11, 11), stride=8, d_state=STATES, num_classes=CLASSES)),
}
SEED, BATCH, LEARNING_RATE = 0, 32, 3e-3
BOOST, FADE = 6.0, 0.3  # the notes start this many times as loud, and are as faint as they are after this share


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains, writes, and prints the accuracy on the held-out calls after the last step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=NETWORKS, default="calls", help="calls is an EfficientVMamba")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint, the labels and the images")
    parser.add_argument("--images", type=int, default=80_000, help="how many are drawn, each seen once")
    parser.add_argument("--held-out", type=int, default=HELD_OUT)
    options = parser.parse_args(arguments)

    start = time.perf_counter()
    torch.manual_seed(SEED)
    model = train(NETWORKS[options.network](), options.images // BATCH)
    save(model, options.out, options.network)
    write_examples(options.out / "images")
    report(TorchRunner(model), PREPROCESSING, BATCH, options.held_out)
    print(f"{count_parameters(model)} parameters, {time.perf_counter() - start:.0f} s")


def train(model: nn.Module, steps: int) -> nn.Module:
    """The model after the last step, in eval mode; nothing is chosen by looking at the held-out calls."""
    with torch.no_grad():  # filters that see no flat grey hear the faint notes at once: the start is far shorter
        filters = next(module for module in model.modules() if isinstance(module, nn.Conv2d)).weight
        filters -= filters.mean((1, 2, 3), keepdim=True)
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.08)
    total = 0.0
    for step in range(steps):
        boost = 1 + (BOOST - 1) * max(0.0, 1 - step / (FADE * steps))
        images, labels = draw("training", BATCH, start=step * BATCH, boost=boost)
        loss = F.cross_entropy(model(torch.from_numpy(model_inputs(images))), torch.from_numpy(labels))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        total += loss.item()
        if (step + 1) % 100 == 0:
            print(f"step {step + 1} of {steps}: loss {total / 100:.3f}", flush=True)
            total = 0.0
    return model.eval()


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
