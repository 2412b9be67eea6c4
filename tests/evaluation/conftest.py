"""Bundles that look at colours, and pictures of them: what is right, and what is confused, is known beforehand."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from evm_deploy.bundle import IOSpec, Manifest, Sample, write_bundle

LABELS = ("red", "green", "blue")
RIGHT = np.eye(3, dtype=np.float32)


def colour_model(weights: np.ndarray) -> bytes:
    """(1, 3, 32, 32) to the mean of each channel, times `weights`: (1, 3)."""
    n = len(weights[0])
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["image", "axes"], ["means"], keepdims=0),
            helper.make_node("MatMul", ["means", "weights"], ["logits"]),
        ],
        "colours",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 32, 32])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, n])],
        [
            numpy_helper.from_array(np.array([2, 3], np.int64), "axes"),
            numpy_helper.from_array(weights.astype(np.float32), "weights"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


@pytest.fixture
def colours(manifest: Manifest, tmp_path: Path) -> Callable[..., Path]:
    """colours(name, weights, labels, **manifest): a bundle of such a model."""

    def make(name: str, weights: np.ndarray = RIGHT, labels: tuple[str, ...] | None = LABELS, **changes: Any) -> Path:
        shape = (1, len(weights[0]))
        fields = {"outputs": (IOSpec("logits", shape, "float32", "NC", "logits"),), "scan_form": "inlined"} | changes
        with write_bundle(tmp_path / name, overwrite=True) as draft:
            (draft.path / "model.onnx").write_bytes(colour_model(weights))
            draft.write_sample(Sample(np.zeros((1, 3, 32, 32), np.float32), (np.zeros(shape, np.float32),)))
            names = draft.write_labels(labels) if labels else None
            draft.seal(dataclasses.replace(manifest, labels=names, **fields))
        return tmp_path / name

    return make


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder for each class: 4 red, 3 green and 2 blue pictures."""
    return paint(tmp_path / "pictures", {"red": 4, "green": 3, "blue": 2})


def paint(folder: Path, counts: dict[str, int], side: int = 40) -> Path:
    """`counts` pictures of each colour, no two of them equal."""
    rng = np.random.default_rng(0)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = rng.integers(0, 120, (side, side, 3), dtype=np.uint8)
            pixels[..., LABELS.index(name)] += 100
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder
