"""What checkpoints record of their images, in the words of each tool, becomes the manifest's; what cannot is said."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evm_deploy.errors import BundleError
from evm_deploy.jsontext import dumps, read_dataclass
from evm_deploy.manifest import CHOSEN, Preprocessing
from evm_deploy.models import tensor_files
from evm_deploy.models.recorded.config_text import MOST_TEXT, parse_config
from evm_deploy.models.recorded.read import RecordedPreprocessing, read_recorded
from evm_deploy.models.recorded.statement import compute_share

HALF = (0.5, 0.5, 0.5)
INCEPTION = {"mean": HALF, "std": HALF, "crop_pct": 0.9, "interpolation": "bilinear", "crop_mode": "squash"}
IMAGENET_LEVELS = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}


class CfgNode(dict):  # type: ignore[type-arg]
    """As yacs has it: a dictionary that keeps something beside its entries."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.__dict__["__immutable__"] = True


def through_a_file(folder: Path, content: Any) -> RecordedPreprocessing:
    """What is recorded in the file that torch.save makes of the content."""
    torch.save({"model": {}, **content}, folder / "a.pth")
    return read_recorded(tensor_files.read(folder / "a.pth").held)


# timm


@pytest.mark.parametrize("key", ["pretrained_cfg", "default_cfg"])
def test_the_configuration_of_a_timm_model(tmp_path: Path, key: str) -> None:
    found = through_a_file(tmp_path, {key: {**INCEPTION, "input_size": (3, 192, 256), "num_classes": 10}})
    assert found.values == {
        "mean": HALF,
        "std": HALF,
        "crop_pct": 0.9,
        "interpolation": "bilinear",
        "resize": "squash",
    }
    assert set(found.sources.values()) == {key}
    assert (found.image_size, found.size_source) == ((192, 256), key)
    assert not found.remarks


@pytest.mark.parametrize("kind", [argparse.Namespace, dict])
def test_the_arguments_of_a_training_script(tmp_path: Path, kind: Callable[..., Any]) -> None:
    said = {**INCEPTION, "train_interpolation": "random", "input_size": 96, "lr": 1e-3}
    found = through_a_file(tmp_path, {"args": kind(**said)})
    assert found.values == {"resize" if name == "crop_mode" else name: value for name, value in INCEPTION.items()}
    assert found.image_size == (96, 96)
    assert set(found.sources.values()) == {"args"}


def test_arguments_that_leave_it_to_the_model(tmp_path: Path) -> None:
    """As timm's script has them by default; the interpolation of training is another."""
    silent = argparse.Namespace(
        mean=None, std=None, crop_pct=None, interpolation="", train_interpolation="bilinear", input_size=None
    )
    assert through_a_file(tmp_path, {"args": silent}) == RecordedPreprocessing()
    both = through_a_file(tmp_path, {"args": silent, "pretrained_cfg": INCEPTION})
    assert set(both.sources.values()) == {"pretrained_cfg"}


def test_arguments_come_before_the_configuration_of_the_model() -> None:
    found = read_recorded({"pretrained_cfg": INCEPTION, "args": {"crop_pct": 1, "interpolation": "bicubic"}})
    assert (found.values["crop_pct"], found.values["interpolation"], found.values["mean"]) == (1, "bicubic", HALF)
    assert (found.sources["crop_pct"], found.sources["mean"]) == ("args", "pretrained_cfg")


def test_the_ratio_of_deit() -> None:
    assert read_recorded({"args": {"eval_crop_ratio": 0.95, "input_size": 224}}).values == {"crop_pct": 0.95}


def test_timm_pads_with_the_mean() -> None:
    grey = read_recorded({"pretrained_cfg": {"mean": [0.5], "std": [0.25], "crop_mode": "border"}})
    assert grey.values == {"mean": HALF, "std": (0.25, 0.25, 0.25), "resize": "letterbox", "fill": 128}
    assert not grey.remarks
    usual = read_recorded({"pretrained_cfg": {"crop_mode": "border"}})
    assert usual.values["fill"] == 115
    assert "a padding of 124, 116, 104" in usual.remarks["fill"]


def test_a_fill_belongs_to_its_letterbox() -> None:
    found = read_recorded({"args": {"crop_mode": "center"}, "pretrained_cfg": {"crop_mode": "border"}})
    assert found.values == {"resize": "cover"}


def test_levels_of_0_to_255_are_converted() -> None:
    found = read_recorded({"args": {"mean": [127.5, 0, 255], "std": [1, 1, 1]}})
    assert found.values["mean"] == pytest.approx((0.5, 0, 1))
    assert found.values["std"] == pytest.approx((1 / 255,) * 3)


# Swin's script


def test_the_configuration_of_swins_script(tmp_path: Path) -> None:
    data = CfgNode({"IMG_SIZE": 256, "INTERPOLATION": "lanczos"})
    squashed = through_a_file(tmp_path, {"config": CfgNode({"DATA": data, "TEST": CfgNode({"CROP": False})})})
    assert squashed.values == {"interpolation": "lanczos", "resize": "squash", "crop_pct": 1.0}
    assert (squashed.image_size, squashed.size_source) == ((256, 256), "config")
    cropped = through_a_file(tmp_path, {"config": CfgNode({"DATA": data, "TEST": CfgNode({"CROP": True})})})
    assert cropped.values == {"interpolation": "lanczos", "crop_pct": 0.875}


# mmengine and mmcv


MMPRETRAIN = """
custom_imports = dict(allow_failed_imports=False, imports=['a.b'])
data_preprocessor = dict(
    mean=[103.53, 116.28, 123.675], num_classes=10, std=[1.0, 1.0, 1.0], to_rgb=False)
launcher = __import__('pathlib').Path('{marker}').touch()
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(backend='pillow', edge='short', interpolation='bicubic', scale=235, type='mmpretrain.ResizeEdge'),
    dict(crop_size=224, type='CenterCrop'),
    dict(type='PackInputs'),
]
"""


def test_the_text_of_an_mmpretrain_configuration_is_read_and_never_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    found = through_a_file(tmp_path, {"meta": {"cfg": MMPRETRAIN.replace("{marker}", str(marker))}})
    assert found.values["mean"] == pytest.approx((0.406, 0.456, 0.485), abs=1e-9)
    assert found.values["std"] == pytest.approx((1 / 255,) * 3)
    assert (found.values["channels"], found.values["interpolation"]) == ("BGR", "bicubic")
    assert Preprocessing((224, 224), found.values["crop_pct"]).resize_size == (235, 235)
    assert found.image_size == (224, 224)
    assert set(found.sources.values()) == {"meta.cfg"}
    assert not found.remarks
    assert not marker.exists()


@pytest.mark.parametrize("swap", ["to_rgb", "bgr_to_rgb"])
def test_a_configuration_that_is_no_text(swap: str) -> None:
    model = {"data_preprocessor": {**IMAGENET_LEVELS, swap: True}}
    resize = {"type": "Resize", "scale": (96, 96), "backend": "pillow", "interpolation": "bilinear"}
    found = read_recorded({"meta": {"cfg": {"model": model, "test_dataloader": {"dataset": {"pipeline": [resize]}}}}})
    assert found.values["channels"] == "RGB"
    assert found.values["mean"] == pytest.approx((0.485, 0.456, 0.406))
    assert (found.values["resize"], found.values["crop_pct"], found.image_size) == ("squash", 1.0, (96, 96))


def test_the_steps_of_an_older_configuration() -> None:
    """mmcls: the size (256, -1) is that of the short edge; OpenCV resizes; its Normalize gives RGB."""
    text = """
data = dict(test=dict(pipeline=[
    dict(type='Resize', size=(256, -1)),
    dict(type='CenterCrop', crop_size=224),
    dict(type='Normalize', mean=[0, 0, 0], std=[255, 255, 255])]))
"""
    found = read_recorded({"meta": {"config": text}})
    assert found.values == {
        "mean": (0, 0, 0),
        "std": (1, 1, 1),
        "channels": "RGB",
        "interpolation": "bilinear",
        "crop_pct": 0.875,
    }
    assert list(found.remarks) == ["interpolation"]
    assert "OpenCV's bilinear, which is not antialiased" in found.remarks["interpolation"]


@pytest.mark.parametrize(
    ("step", "field"),
    [
        ({"type": "Resize", "scale": (1333, 800), "keep_ratio": True, "backend": "pillow"}, "resize"),
        ({"type": "ResizeEdge", "scale": 256, "edge": "long", "backend": "pillow"}, "resize"),
        ({"type": "ResizeEdge", "scale": 256, "interpolation": "area"}, "interpolation"),
        ({"type": "ResizeEdge", "scale": 256, "backend": "pillow"}, "crop_pct"),
    ],
)
def test_steps_that_the_manifest_cannot_say(step: dict[str, Any], field: str) -> None:
    found = read_recorded({"meta": {"cfg": {"test_pipeline": [step]}}})
    assert field in found.remarks
    assert field not in found.values


NESTED = "x = " + "-" * 100_000 + "1"


@pytest.mark.parametrize("text", ["x = = 1", "a" * (MOST_TEXT + 1), NESTED, "\0", "if 1:\n" * 200])
def test_a_text_that_is_no_configuration_is_said(text: str) -> None:
    assert parse_config(text) is None
    assert "cannot be read" in read_recorded({"meta": {"cfg": text}}).remarks[""]


def test_only_values_are_read_of_a_text() -> None:
    text = "a = dict(b=[1, -2.5, 'c', None, True], **x)\nd = {'e': (f(), g.h, i[0])}\nj: int = 3\nk = a\ndef l(): pass"
    assert parse_config(text) == {"a": {"b": [1, -2.5, "c", None, True]}, "d": {"e": [None] * 3}, "k": None}


# What else may stand there


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"interpolation": "hamming"}, "interpolation"),
        ({"crop_pct": 1.5}, "crop_pct"),
        ({"crop_pct": math.nan}, "crop_pct"),
        ({"crop_pct": True}, "crop_pct"),
        ({"crop_mode": "ten"}, "resize"),
        ({"mean": [0.5, 0.5]}, "mean"),
        ({"mean": [math.nan, 0, 0]}, "mean"),
        ({"std": [0, 0, 0]}, "std"),
        ({"interpolation": "\x1b[31m" * 50}, "interpolation"),
    ],
)
def test_values_that_mean_nothing_are_said_and_left(said: dict[str, Any], field: str) -> None:
    found = read_recorded({"args": said})
    assert field not in found.values
    assert found.remarks[field].startswith("args of the checkpoint states")
    assert found.remarks[field].isascii()
    assert len(found.remarks[field]) < 120


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NAMES = ("mean", "std", "crop_pct", "interpolation", "crop_mode", "input_size", "img_size", "DATA", "TEST")
SAID = st.dictionaries(st.sampled_from(NAMES), JSON)
STEPS = st.dictionaries(st.sampled_from(["type", "scale", "size", "edge", "keep_ratio", "crop_size", "mean"]), JSON)


@given(
    st.dictionaries(st.sampled_from(["args", "config", "pretrained_cfg"]), SAID),
    st.dictionaries(st.sampled_from(["data_preprocessor", "model"]), JSON),
    st.lists(STEPS | JSON, max_size=3) | JSON,
)
def test_anything_there_gives_values_that_a_manifest_may_have(content: Any, config: Any, pipeline: Any) -> None:
    found = read_recorded({**content, "meta": {"cfg": {**config, "test_pipeline": pipeline}}})
    steps = found.apply(Preprocessing((32, 32)))
    assert {name: getattr(steps, name) for name in found.values} == found.values
    assert read_dataclass(Preprocessing, dumps(steps).encode(), "it", BundleError, "fix") == steps
    assert found.sources.keys() == found.values.keys() <= set(CHOSEN)


@given(st.integers(1, 4096), st.integers(1, 4096))
def test_the_share_of_a_crop_leads_back_to_its_size(crop: int, size: int) -> None:
    crop, size = sorted((crop, size))
    assert math.floor(crop / compute_share(crop, size)) == size
