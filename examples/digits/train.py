"""Trains a small network on handwritten digits, and writes what `evm-deploy export` and `predict` take."""

import argparse
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from data import CLASSES, PREPROCESSING, Images, Labels, held_out, model_inputs, training
from evaluate import report
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from evm_deploy.models import EfficientVMamba, ModelConfig, count_parameters
from evm_deploy.models.vim.config import VimConfig
from evm_deploy.models.vim.network import Vim
from evm_deploy.models.vmamba.config import VMambaConfig
from evm_deploy.models.vmamba.network import VMamba
from evm_deploy.runtimes.pytorch import TorchRunner

DIMS, DEPTHS = (16, 32, 64, 128), (1, 1, 1, 1)
V2 = {"d_inner": DIMS, "gate": False, "conv_bias": False, "mlp": 4, "stem": "3x3 twice", "downsample": "3x3"}
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "digits": lambda: EfficientVMamba(ModelConfig(DIMS, DEPTHS, num_classes=CLASSES)),
    "vmamba": lambda: VMamba(VMambaConfig(DIMS, DEPTHS, d_state=1, num_classes=CLASSES, **V2)),
    "vim": lambda: Vim(VimConfig(64, 6, (7, 7), stride=8, d_state=4, num_classes=CLASSES)),
}
RATES = {"digits": 3e-3, "vmamba": 1e-3, "vim": 1e-3}
SEED, BATCH = 0, 32


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains, writes, and prints the accuracy on the held-out digits after the last epoch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=NETWORKS, default="digits", help="digits is an EfficientVMamba")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint, the labels and the images")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--limit", type=int, help="train on this many digits only")
    options = parser.parse_args(arguments)

    start = time.perf_counter()
    images, labels = training()
    model = train(options.network, images[: options.limit], labels[: options.limit], options.epochs)
    save(model, options.out, options.network)
    write_examples(options.out / "images")
    report(TorchRunner(model), PREPROCESSING, BATCH)
    print(f"{count_parameters(model)} parameters, {time.perf_counter() - start:.0f} s")


def train(name: str, images: Images, labels: Labels, epochs: int) -> nn.Module:
    """The model after the last epoch, in eval mode; nothing is chosen by looking at the held-out digits."""
    torch.manual_seed(SEED)
    model, rate = NETWORKS[name](), RATES[name]
    inputs, targets = torch.from_numpy(model_inputs(images)), torch.from_numpy(labels)
    steps = epochs * math.ceil(len(inputs) / BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.15)
    for epoch in range(epochs):
        total = 0.0
        for batch in torch.randperm(len(inputs)).split(BATCH):
            loss = F.cross_entropy(model(augment(inputs[batch])), targets[batch], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item() * len(batch)
        print(f"epoch {epoch + 1} of {epochs}: loss {total / len(inputs):.3f}", flush=True)
    return model.eval()


def augment(x: Tensor) -> Tensor:
    """(B, 3, h, w), each image turned by up to 10 degrees, scaled by up to 10 % and shifted by up to 8 % of a side."""
    angle, *scale, dx, dy = (torch.rand(5, len(x)) * 2 - 1) * torch.tensor([0.17, 0.1, 0.1, 0.16, 0.16])[:, None]
    width, height = (1 + s for s in scale)
    rows = [width * angle.cos(), -height * angle.sin(), dx, width * angle.sin(), height * angle.cos(), dy]
    grid = F.affine_grid(torch.stack(rows, 1).view(-1, 2, 3), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def save(model: nn.Module, out: Path, name: str) -> None:
    """The checkpoint, named after the network, and `labels.txt`."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "labels.txt").write_text("".join(f"{label}\n" for label in range(CLASSES)))
    if name != "digits":  # as training scripts write them; without the size the stride of a Vim would be guessed
        args = {"input_size": PREPROCESSING.image_size[0]}
        torch.save({"model": model.state_dict(), "args": args}, out / f"{name}.pth")
        return
    about = {
        "format": "pt",
        "description": f"{type(model).__name__} trained on scikit-learn's handwritten digits",
        "image_size": "x".join(map(str, PREPROCESSING.image_size)),
        "parameters": str(count_parameters(model)),
    }
    save_file(model.state_dict(), out / f"{name}.safetensors", about)


def write_examples(out: Path) -> None:
    """A dozen held-out digits: the first of each class, then the first two that are left."""
    images, labels = held_out()
    firsts = [labels.tolist().index(label) for label in range(CLASSES)]
    others = [i for i in range(len(labels)) if i not in firsts][:2]
    out.mkdir(exist_ok=True)
    for i in sorted(firsts + others):
        Image.fromarray(images[i]).save(out / f"held_out_{i:03}_is_{labels[i]}.png")


if __name__ == "__main__":
    main()
