"""The network against the outputs of the authors' own, and proof that the thresholds see a broken scan."""

import numpy as np
import pytest
import torch
from torch import Tensor

from evm_deploy import scan
from evm_deploy.models import EfficientVMamba
from evm_deploy.scan import atrous, reference
from evm_deploy.scan.inputs import Scan2DInputs
from evm_deploy.tolerances import GOLDEN_LOGITS, GOLDEN_SCAN

VARIANTS = ("micro", "tiny", "small", "base")
SIZES = ((224, 224), (192, 256), (250, 230))


@pytest.fixture(scope="module")
def models(golden):
    kept: dict[str, EfficientVMamba] = {}

    def get(name: str) -> EfficientVMamba:
        if name not in kept:
            kept.clear()
            kept[name] = golden.model(name)
        return kept[name]

    return get


@pytest.mark.parametrize("name", [*VARIANTS, *(f"backbone_{name}" for name in VARIANTS)])
def test_parameters_have_the_released_names_shapes_and_order(golden, name):
    config = golden.configs[name.removeprefix("backbone_")]
    fields = {"num_classes": None} if name.startswith("backbone_") else {}
    with torch.device("meta"):
        model = EfficientVMamba(type(config)(**{**vars(config), **fields}))
    assert {key: tuple(t.shape) for key, t in model.state_dict().items()} == golden.shapes(name)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", VARIANTS)
@torch.inference_mode()
def test_logits(golden, models, name, size):
    h, w = size
    assert golden.error(f"{name}_logits_{h}x{w}", models(name)(golden.image(h, w))) <= GOLDEN_LOGITS


@pytest.mark.parametrize("name", VARIANTS)
@torch.inference_mode()
def test_features(golden, models, name):
    h, w = (192, 256) if name == "base" else (250, 230)
    features = models(f"backbone_{name}")(golden.image(h, w))
    assert len(features) == 4
    for i, feature in enumerate(features):
        assert list(feature.shape) == golden.outputs[f"{name}_feature{i}_shape_{h}x{w}"].tolist()
        assert golden.error(f"{name}_feature{i}_{h}x{w}", feature.flatten()[::97]) <= GOLDEN_LOGITS


def mixer_input(h: int, w: int, channels: int) -> Tensor:
    values = np.random.default_rng(h * 100 + w).standard_normal((1, h, w, channels))
    return torch.from_numpy(values.astype(np.float32))


def scan_input(h: int, w: int, channels: int) -> Tensor:
    values = np.random.default_rng(h * 100 + w + 1).standard_normal((1, channels, h, w))
    return torch.from_numpy(values.astype(np.float32)).permute(0, 2, 3, 1)


@pytest.mark.parametrize("size", [(14, 14), (9, 12)])
@pytest.mark.parametrize("name", ["micro", "tiny"])
@torch.inference_mode()
def test_first_mixer_and_its_scan(golden, models, name, size):
    model, (h, w) = models(name), size
    mixer, C = model.layers[0].blocks[0].op, model.config.dims[0]
    assert golden.error(f"{name}_ss2d_{h}x{w}", mixer(mixer_input(h, w, C))) <= GOLDEN_SCAN
    assert golden.error(f"{name}_es2d_{h}x{w}", mixer.scan(scan_input(h, w, 2 * C))) <= GOLDEN_SCAN


def lost_carry(x, x_proj, dt_proj, dt_bias, A, D, step):
    """ES2D whose state is forgotten in the middle of every sequence."""
    u = atrous.gather(x, step)
    dt, B, C = torch.split(u @ x_proj, [dt_proj.shape[1], A.shape[1], A.shape[1]], -1)
    halves = zip(*(t.tensor_split(2, 2) for t in (u, dt @ dt_proj, B, C)), strict=True)
    y = [scan.selective_scan(u, dt, A, B, C, D, dt_bias, True) for u, dt, B, C in halves]
    return atrous.scatter(torch.cat(y, 2), x.shape[1], x.shape[2], step)


def dropped_scan(x, x_proj, dt_proj, dt_bias, A, D, step):
    """ES2D of which only D * u is left."""
    u = atrous.gather(x, step)
    return atrous.scatter(u * D[:, None], x.shape[1], x.shape[2], step)


@pytest.mark.parametrize(("broken", "moves"), [(lost_carry, 0.006), (dropped_scan, 0.034)])
@torch.inference_mode()
def test_a_broken_scan_fails(golden, models, monkeypatch, broken, moves):
    model = models("tiny")
    mixer = model.layers[0].blocks[0].op
    monkeypatch.setattr(scan, "efficient_scan_2d", broken)
    logits = golden.error("tiny_logits_224x224", model(golden.image(224, 224)))
    assert logits == pytest.approx(moves, rel=0.2)  # what the specification of the goldens says
    assert logits > 100 * GOLDEN_LOGITS
    assert golden.error("tiny_es2d_9x12", mixer.scan(scan_input(9, 12, 96))) > 100 * GOLDEN_SCAN


@torch.inference_mode()
def test_lost_carry_is_exact_but_for_the_carry(models):
    """The broken scan above is broken in one way: with one token a half there is next to nothing to carry."""
    mixer = models("tiny").layers[0].blocks[0].op
    x = scan_input(2, 2, 96)  # one token a direction
    expected = reference.run(Scan2DInputs(x, *mixer.scan_parameters(), 2))
    torch.testing.assert_close(lost_carry(x, *mixer.scan_parameters(), 2), expected)
