"""What tests of several modules share: a small bundle, made without any model, and a small disk."""

import dataclasses
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evm_deploy.bundle import Bundle, CheckpointRecord, IOSpec, Manifest, Preprocessing, Sample, write_bundle

MANIFEST = Manifest(
    task="classification",
    target="onnx",
    precision="fp32",
    model_file="model.onnx",
    inputs=(IOSpec("image", ("batch", 3, 224, 224), "float32", "NCHW", "image"),),
    outputs=(IOSpec("probabilities", ("batch", 3), "float32", "NC", "probabilities", (0.0, 1.0)),),
    preprocessing=Preprocessing((224, 224)),
    checkpoint=CheckpointRecord("tiny.pth", "0" * 64),
    model={"dims": [48, 96], "step": 2},
    scan_form="operator",
    tools={"onnx": "1.20"},
    opset=20,
    parity={"psnr": float("inf")},
)


@pytest.fixture
def manifest() -> Manifest:
    return MANIFEST


@pytest.fixture
def make_bundle() -> Callable[..., Bundle]:
    """Writes a bundle with these contents and opens it: `make_bundle(out, model=b"...", labels=..., **manifest)`."""

    def make(
        out: Path, model: bytes = b"model", labels: tuple[str, ...] = ("cat", "dog", "eel"), **changes: Any
    ) -> Bundle:
        with write_bundle(out, overwrite=changes.pop("overwrite", False)) as draft:
            (draft.path / "model.onnx").write_bytes(model)
            draft.write_sample(Sample(np.zeros((1, 3, 2, 2), np.float32), (np.eye(3, dtype=np.float32),)))
            name = draft.write_labels(labels)
            draft.seal(dataclasses.replace(MANIFEST, labels=name, **changes))
        return Bundle.open(out)

    return make


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False
    )
    if not made or made.returncode:
        pytest.skip("mounting a small tmpfs takes rights that this user does not have")
    yield disk
    subprocess.run(["umount", disk], check=True)
