"""The examples of detection and segmentation: their checkpoints find the shapes, and can be trained again."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import evm_deploy
from evm_deploy import EvaluateOptions, ExportOptions, QuantizeOptions
from evm_deploy.bundle import Bundle
from evm_deploy.verification.integer_report import report_integers

SHAPES = Path(__file__).resolve().parents[2] / "examples" / "shapes"
COUNT = 60  # held-out scenes
MOST_LOST = 0.005  # by 8 bits: measured 0.0005 and less on 200 scenes


@pytest.fixture(scope="module")
def shapes() -> ModuleType:
    spec = importlib.util.spec_from_file_location("shapes_data", SHAPES / "data.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclass looks
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def scenes(shapes: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    shapes.main([str(folder), "--count", str(COUNT)])
    return folder


def evaluate(kind: str, scenes: Path, annotations: str, out: Path) -> list[dict[str, float | None]]:
    """The figures of the float bundle, and of the one in 8 bits."""
    path, bundles = SHAPES / f"{kind}.pth", [out / "float", out / "int8"]
    assert path.stat().st_size < 3_000_000
    evm_deploy.export(path, bundles[0], ExportOptions(image_size=(160, 160), verify=False))
    report = evm_deploy.quantize(bundles[0], scenes / "images", bundles[1], QuantizeOptions(samples=16)).report
    assert report is not None
    assert report.passed
    assert report_integers(Bundle.open(bundles[1]), library=True).multiply_adds > 0.99
    options = EvaluateOptions(annotations=scenes / annotations, latency_runs=0)
    rows = evm_deploy.evaluate(bundles, scenes / "images", options).rows
    return [{figure.name: figure.value for figure in row.figures} for row in rows]


def test_detector_finds_the_shapes(shapes: ModuleType, scenes: Path, tmp_path: Path):
    pytest.importorskip("pycocotools")
    exact, rounded = evaluate("detector", scenes, "annotations.json", tmp_path)
    assert exact["AP50"] >= 0.9
    assert rounded["AP50"] >= exact["AP50"] - MOST_LOST
    assert Bundle.open(tmp_path / "float").labels() == shapes.SHAPES


@pytest.mark.slow
def test_segmenter_names_their_pixels(shapes: ModuleType, scenes: Path, tmp_path: Path):
    exact, rounded = evaluate("segmenter", scenes, "masks", tmp_path)
    assert exact["mIoU"] >= 0.8
    assert rounded["mIoU"] >= exact["mIoU"] - MOST_LOST
    assert Bundle.open(tmp_path / "float").labels() == (shapes.GROUND, *shapes.SHAPES)


def test_a_scene_depends_on_its_split_and_number_alone(shapes: ModuleType):
    one, same, other = shapes.draw("held-out", 3), shapes.draw("held-out", 3), shapes.draw("training", 3)
    assert np.array_equal(one.image, same.image)
    assert not np.array_equal(one.image, other.image)
    for mask, (x0, y0, x1, y1) in zip(one.masks, one.boxes.astype(int), strict=True):
        assert mask[y0:y1, x0:x1].sum() == mask.sum()
    assert (one.masks.sum(0) <= 1).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["detector", "segmenter"])
def test_both_can_be_trained_again(kind: str, tmp_path: Path):
    command = [sys.executable, SHAPES / "train.py", kind, "--out", tmp_path, "--steps", "2"]
    subprocess.run(command, check=True, capture_output=True)
    trained, released = (
        torch.load(folder / f"{kind}.pth", weights_only=True)["state_dict"] for folder in (tmp_path, SHAPES)
    )
    assert {name: tensor.shape for name, tensor in trained.items()} == {
        name: tensor.shape for name, tensor in released.items()
    }
