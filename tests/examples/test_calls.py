"""The harder example: what it draws is what its names say, its checkpoint hears it, and can be trained again."""

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from evm_deploy.images import load_image
from evm_deploy.models import checkpoint
from evm_deploy.models.layers.scan_mixer import ScanMixer
from evm_deploy.preprocessing import preprocess
from evm_deploy.runtimes.pytorch import TorchRunner

CALLS = Path(__file__).resolve().parents[2] / "examples" / "calls"
PNGS = sorted((CALLS / "images").glob("*.png"))

HeldOut = tuple[np.ndarray, np.ndarray]  # inputs (n, 3, 96, 96) and labels (n,)


@pytest.fixture(scope="module")
def runner() -> TorchRunner:
    return TorchRunner(checkpoint.load(CALLS / "calls.safetensors"))


def accuracy(runner: TorchRunner, held_out: HeldOut) -> float:
    inputs, labels = held_out
    scores = [runner.run(inputs[i : i + 32])[0] for i in range(0, len(inputs), 32)]
    return float((np.concatenate(scores).argmax(1) == labels).mean())


def test_checkpoint_is_small():
    assert (CALLS / "calls.safetensors").stat().st_size < 2_500_000


def test_an_image_depends_on_its_split_and_number_alone(calls: ModuleType):
    images, labels = calls.draw("calibration", 20)
    others, other_labels = calls.draw("calibration", 3, start=17)
    np.testing.assert_array_equal(images[17:], others)
    np.testing.assert_array_equal(labels[17:], other_labels)


def test_splits_share_no_image(calls: ModuleType):
    images = np.concatenate([calls.draw(split, 32)[0] for split in calls.SPLITS])
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == 96


def test_every_class_is_drawn_as_often(calls: ModuleType):
    assert np.all(np.bincount(calls.draw("held-out", 48)[1]) == 3)


def test_preprocessing_only_crops(calls: ModuleType):
    image = calls.draw("held-out", 1)[0][0]
    kept = slice(calls.MARGIN, calls.MARGIN + calls.CROP)
    mean, std = np.float32(calls.PREPROCESSING.mean), np.float32(calls.PREPROCESSING.std)
    expected = ((np.float32(image[kept, kept]) / 255 - mean) / std).transpose(2, 0, 1)
    np.testing.assert_allclose(preprocess(image, calls.PREPROCESSING)[0], expected, atol=1e-6)


def test_calls_are_faint_beside_the_noises(calls: ModuleType):
    images = calls.draw("held-out", 64)[0]
    assert np.median(images) < 10
    assert (images.max((1, 2, 3)) > 200).mean() > 0.25


def test_tree_is_what_calibration_reads(calls: ModuleType, tmp_path: Path):
    calls.main([str(tmp_path), "--count", "20", "--split", "held-out"])
    images, labels = calls.draw("held-out", 20)
    assert {path.name for path in tmp_path.iterdir()} == set(calls.LABELS)
    files = sorted(tmp_path.glob("*/*.png"), key=lambda path: path.name)
    assert [path.parent.name for path in files] == [calls.LABELS[label] for label in labels]
    np.testing.assert_array_equal(np.stack([load_image(path) for path in files]), images)


def test_held_out_accuracy(runner: TorchRunner, held_out: HeldOut):
    assert accuracy(runner, held_out) >= 0.95


def test_scan_matters(runner: TorchRunner, held_out: HeldOut, monkeypatch: pytest.MonkeyPatch):
    def silent(mixer: ScanMixer, x: Tensor) -> Tensor:
        return torch.zeros_like(x)

    monkeypatch.setattr(ScanMixer, "scan", silent)
    assert accuracy(runner, held_out) < 0.75


def test_images_are_the_held_out_calls_that_their_names_say(calls: ModuleType):
    images, labels = calls.draw("held-out", calls.CLASSES)
    assert (CALLS / "labels.txt").read_text().splitlines() == list(calls.LABELS)
    assert len(PNGS) == calls.CLASSES
    for path in PNGS:
        index, name = int(path.stem.split("_")[2]), path.stem.split("_is_")[1]
        assert calls.LABELS[labels[index]] == name
        np.testing.assert_array_equal(load_image(path), images[index])


@pytest.mark.slow
def test_training_runs_end_to_end(tmp_path: Path):
    arguments = ["--out", str(tmp_path), "--images", "64", "--held-out", "32"]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}  # on a busy machine threads that wait for each other take minutes
    command = [sys.executable, str(CALLS / "train.py"), *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=alone, timeout=300)
    assert "of 32 held-out calls" in done.stdout
    assert (tmp_path / "labels.txt").read_text() == (CALLS / "labels.txt").read_text()
    for path in PNGS:
        np.testing.assert_array_equal(load_image(tmp_path / "images" / path.name), load_image(path))
    assert checkpoint.load(tmp_path / "calls.safetensors")(torch.zeros(1, 3, 96, 96)).shape == (1, 16)
