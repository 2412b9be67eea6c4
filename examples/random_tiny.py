"""Writes EfficientVMamba-T with random weights, and a photograph: what it takes to try a deployment at full size."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_sample_image

from evm_deploy.models import EfficientVMamba, ModelConfig


def main(arguments: Sequence[str] | None = None) -> None:
    """`tiny_random.safetensors` (26 MB) and `china.png` in the folder of the command line; the same at every run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="the folder to write to")
    out: Path = parser.parse_args(arguments).out
    out.mkdir(parents=True, exist_ok=True)

    torch.manual_seed(0)
    model = EfficientVMamba(ModelConfig.variant("tiny"))
    save_file(model.state_dict(), out / "tiny_random.safetensors", {"format": "pt", "description": "random weights"})
    Image.fromarray(load_sample_image("china.jpg")).save(out / "china.png")


if __name__ == "__main__":
    main()
