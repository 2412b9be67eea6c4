"""Accuracy on the held-out digits: of the checkpoint in PyTorch, and of a bundle in every way it can be run here."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from data import PREPROCESSING, held_out, model_inputs

from evm_deploy.bundle import Bundle, Preprocessing
from evm_deploy.models import checkpoint
from evm_deploy.runtimes import Runner, find_runtime
from evm_deploy.runtimes.pytorch import TorchRunner

HERE = Path(__file__).resolve().parent


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a line for PyTorch, and one for each way in which the bundle can be run here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=HERE / "digits.safetensors")
    parser.add_argument("--bundle", type=Path, help="a folder that evm-deploy export wrote")
    options = parser.parse_args(arguments)

    report(TorchRunner(checkpoint.load(options.checkpoint)), PREPROCESSING, batch=32)
    if options.bundle:
        bundle = Bundle.open(options.bundle)
        for open_runner in find_runtime(bundle).find_ways(bundle).open:
            with open_runner() as runner:
                report(runner, bundle.manifest.preprocessing, batch=1)


def report(runner: Runner, preprocessing: Preprocessing, batch: int) -> float:
    """Prints and returns the share of the held-out digits that `runner` names correctly."""
    images, labels = held_out()
    inputs = model_inputs(images, preprocessing)
    scores = [runner.run(inputs[i : i + batch])[0] for i in range(0, len(inputs), batch)]
    correct = int((np.concatenate(scores).argmax(1) == labels).sum())
    print(f"{runner.name}: {correct} of {len(labels)} held-out digits, {correct / len(labels):.2%}", flush=True)
    return correct / len(labels)


if __name__ == "__main__":
    main()
