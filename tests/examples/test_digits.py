"""The example: its checkpoint is good at digits, through the deployed preprocessing, and can be trained again."""

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn", reason="the examples need scikit-learn: pip install 'evm-deploy[examples]'")

from evm_deploy.images import load_image
from evm_deploy.models import checkpoint
from evm_deploy.preprocessing import preprocess
from evm_deploy.runtimes.pytorch import TorchRunner

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DIGITS = EXAMPLES / "digits"
PNGS = sorted((DIGITS / "images").glob("*.png"))


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(DIGITS)
    import data

    return data


@pytest.fixture(scope="module")
def runner() -> TorchRunner:
    return TorchRunner(checkpoint.load(DIGITS / "digits.safetensors"))


def test_checkpoint_is_small():
    assert (DIGITS / "digits.safetensors").stat().st_size < 2_000_000


def test_split_is_stratified_and_keeps_every_digit_apart(data: ModuleType):
    (images, labels), (others, other_labels) = data.held_out(), data.training()
    assert len(images) + len(others) == 1797
    assert 0.2 < len(images) / 1797 < 0.26
    shares = np.bincount(labels) / (np.bincount(labels) + np.bincount(other_labels))
    assert np.all((shares > 0.24) & (shares < 0.27))


def test_crop_keeps_all_of_the_ink(data: ModuleType):
    images, _ = data.held_out()
    sides = data.model_inputs(images)[:, :, [0, -1]], data.model_inputs(images)[:, :, :, [0, -1]]
    white = preprocess(np.full_like(images[0], 255), data.PREPROCESSING).max((0, 2, 3))
    for side in sides:
        assert np.all(side == white[:, None, None])


def test_held_out_accuracy(data: ModuleType, runner: TorchRunner, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(DIGITS)
    import evaluate

    assert evaluate.report(runner, data.PREPROCESSING, batch=32) >= 0.97


def test_images_are_the_held_out_digits_that_their_names_say(data: ModuleType):
    images, labels = data.held_out()
    assert {int(path.stem[-1]) for path in PNGS} == set(range(data.CLASSES))
    assert len(PNGS) == 12
    for path in PNGS:
        _, _, index, _, label = path.stem.split("_")
        assert labels[int(index)] == int(label)
        np.testing.assert_array_equal(load_image(path), images[int(index)])


def test_images_are_read_as_their_names_say(data: ModuleType, runner: TorchRunner):
    names = (DIGITS / "labels.txt").read_text().splitlines()
    found = [names[runner.run(preprocess(load_image(path), data.PREPROCESSING))[0].argmax()] for path in PNGS]
    assert sum(path.stem.endswith(f"_{name}") for path, name in zip(PNGS, found, strict=True)) >= 11


@pytest.mark.slow
def test_training_runs_end_to_end(tmp_path: Path):
    output = run(DIGITS / "train.py", "--out", str(tmp_path), "--epochs", "1", "--limit", "128")
    assert "held-out digits" in output
    assert (tmp_path / "labels.txt").read_text() == (DIGITS / "labels.txt").read_text()
    for path in PNGS:
        np.testing.assert_array_equal(load_image(tmp_path / "images" / path.name), load_image(path))
    assert checkpoint.load(tmp_path / "digits.safetensors")(torch.zeros(1, 3, 64, 64)).shape == (1, 10)


@pytest.mark.slow
def test_random_tiny_writes_a_checkpoint_and_a_photograph(tmp_path: Path):
    run(EXAMPLES / "random_tiny.py", str(tmp_path))
    assert checkpoint.load(tmp_path / "tiny_random.safetensors").config.dims == (48, 96, 192, 384)
    assert load_image(tmp_path / "china.png").shape == (427, 640, 3)


def run(script: Path, *arguments: str) -> str:
    """What the script prints when it is run as the README says."""
    command = [sys.executable, str(script), *arguments]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}  # on a busy machine threads that wait for each other take minutes
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=alone, timeout=300).stdout
