"""Accuracy on the held-out calls: of the checkpoint in PyTorch, and of a bundle in every way it can be run here."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from data import HELD_OUT, PREPROCESSING, draw, model_inputs

from evm_deploy.bundle import Bundle, Preprocessing
from evm_deploy.models import checkpoint
from evm_deploy.runtimes import Runner, find_runtime
from evm_deploy.runtimes.pytorch import TorchRunner

HERE = Path(__file__).resolve().parent


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a line for PyTorch, and one for each way in which the bundle can be run here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=HERE / "calls.safetensors")
    parser.add_argument("--bundle", type=Path, help="a folder that evm-deploy export or quantize wrote")
    parser.add_argument("--count", type=int, default=HELD_OUT)
    options = parser.parse_args(arguments)

    report(TorchRunner(checkpoint.load(options.checkpoint)), PREPROCESSING, 32, options.count)
    if options.bundle:
        bundle = Bundle.open(options.bundle)
        for open_runner in find_runtime(bundle).find_ways(bundle).open:
            with open_runner() as runner:
                report(runner, bundle.manifest.preprocessing, 1, options.count)


def report(runner: Runner, preprocessing: Preprocessing, batch: int, count: int) -> float:
    """Prints and returns the share of the first `count` held-out calls that `runner` names correctly."""
    correct = 0
    for start in range(0, count, batch):
        images, labels = draw("held-out", min(batch, count - start), start=start)
        scores = runner.run(model_inputs(images, preprocessing))[0]
        correct += int((scores.argmax(1) == labels).sum())
    print(f"{runner.name}: {correct} of {count} held-out calls, {correct / count:.2%}", flush=True)
    return correct / count


if __name__ == "__main__":
    main()
