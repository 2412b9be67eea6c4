"""Vim against the outputs of the authors' own network, and what must be refused."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from evm_deploy.errors import CheckpointError, InputError
from evm_deploy.models import read_checkpoint
from evm_deploy.models.network import open_checkpoint
from evm_deploy.models.vim import FAMILY
from evm_deploy.tolerances import GOLDEN_LOGITS, GOLDEN_SCAN

GOLDEN = Path(__file__).parent.parent / "golden"
OUTPUTS = np.load(GOLDEN / "vim.npz")
RELEASED = sorted(path.stem.removeprefix("state_dict_vim_") for path in GOLDEN.glob("state_dict_vim_*.json"))
CASES = [m.groups() for name in OUTPUTS.files if (m := re.fullmatch(r"(\w+)_(logits|cls)_(\d+)x\d+_seed(\d+)", name))]


def build(golden, name):
    tensors = golden.state_dict(f"vim_{name}")
    config = FAMILY.infer_config(tensors, None)
    if name == "micro_stride8":  # its positions fit larger images with the usual stride as well
        assert config.image_size == (112, 112)
        config = replace(config, stride=8)
    network = FAMILY.network(config)
    network.load_state_dict(tensors)
    return network.eval()


@pytest.mark.parametrize("name", RELEASED)
def test_the_configuration_is_that_of_the_tensors(golden, name):
    shapes = golden.shapes(f"vim_{name}")
    with torch.device("meta"):
        config = FAMILY.infer_config({key: torch.empty(shape) for key, shape in shapes.items()}, None)
        found = FAMILY.network(config).state_dict()
    assert {key: tuple(tensor.shape) for key, tensor in found.items()} == shapes
    if not name.startswith("micro"):
        assert config.image_size == (224, 224)
        assert FAMILY.name_variant(config) == name.replace("_stride8", "+")


@pytest.mark.parametrize("name", sorted({case[0] for case in CASES}))
@torch.inference_mode()
def test_logits_and_class_tokens(golden, name):
    network = build(golden, name)
    for what, side, seed in (case[1:] for case in CASES if case[0] == name):
        image = torch.from_numpy(golden.weights.image(int(side), int(side), int(seed)))
        expected = torch.from_numpy(OUTPUTS[f"{name}_{what}_{side}x{side}_seed{seed}"])
        for form in (network, FAMILY.fold(network)):
            found = form(image) if what == "logits" else form.forward_features(image)
            torch.testing.assert_close(found, expected, rtol=0, atol=GOLDEN_LOGITS)


@pytest.mark.parametrize("length", [17, 30])
@pytest.mark.parametrize("name", ["micro", "micro_odd"])
@torch.inference_mode()
def test_the_mixer(golden, name, length):
    expected = torch.from_numpy(OUTPUTS[f"{name}_mixer0_L{length}"])
    values = np.random.default_rng(length).standard_normal(expected.shape).astype(np.float32)
    network = build(golden, name)
    for form in (network, FAMILY.fold(network)):
        found = form.layers[0].mixer(torch.from_numpy(values))
        torch.testing.assert_close(found, expected, rtol=0, atol=GOLDEN_SCAN)


@torch.inference_mode()
def test_the_goldens_see_what_each_direction_gives(golden):
    expected = torch.from_numpy(OUTPUTS["micro_mixer0_L17"])
    x = torch.from_numpy(np.random.default_rng(17).standard_normal(expected.shape).astype(np.float32))
    mixer = build(golden, "micro").layers[0].mixer
    for name in ("A_log", "A_b_log", "conv1d_b.weight", "D_b", "dt_proj_b.bias"):
        kept = mixer.get_parameter(name).clone()
        mixer.get_parameter(name).mul_(1.2)
        assert (mixer(x) - expected).abs().max() > 10 * GOLDEN_SCAN, name
        mixer.get_parameter(name).copy_(kept)


@torch.inference_mode()
def test_folded_for_pixels(golden):
    network = build(golden, "micro")
    pixels = torch.randint(0, 256, (1, 3, 64, 64), generator=torch.Generator().manual_seed(0)).float()
    mean, std = (torch.tensor(each)[:, None, None] for each in ((0.4, 0.5, 0.6), (0.2, 0.3, 0.25)))
    folded = FAMILY.fold_preprocessing(network, (0.4, 0.5, 0.6), (0.2, 0.3, 0.25))
    torch.testing.assert_close(folded(pixels), network((pixels / 255 - mean) / std), rtol=0, atol=GOLDEN_LOGITS)


def test_half_precision_leaves_the_recurrence_alone(golden):
    mixer = FAMILY.fold(build(golden, "micro")).half().layers[0].mixer
    assert {mixer.dt_bias.dtype, mixer.A.dtype, mixer.D.dtype} == {torch.float32}
    assert {mixer.x_proj.dtype, mixer.dt_proj.dtype, mixer.out_proj.weight.dtype} == {torch.float16}


def test_images_of_another_size_are_refused(golden, tmp_path):
    torch.save({"model": golden.state_dict("vim_micro")}, tmp_path / "vim.pth")
    network = open_checkpoint(tmp_path / "vim.pth")
    assert network.output_shapes((64, 64), dynamic_batch=True) == [("batch", 10)]
    with pytest.raises(InputError, match=r"4x4 patches, 16 pixels apart.*image of 224x224.*image size 64x64"):
        network.output_shapes((224, 224))
    with pytest.raises(InputError, match="without --dynamic-size"):
        network.output_shapes((64, 64), dynamic_size=True)


@pytest.mark.parametrize(
    ("args", "size"),
    [({"input_size": 64}, (64, 64)), ({"input_size": 80}, (112, 112)), ({"input_size": (64, 112)}, (112, 112))],
)
def test_the_stride_is_that_of_images_of_the_size_that_the_file_states(golden, tmp_path, args, size):
    torch.save({"model": golden.state_dict("vim_micro_stride8"), "args": args}, tmp_path / "vim.pth")
    assert read_checkpoint(tmp_path / "vim.pth").config.image_size == size


def test_patches_smaller_than_the_usual_stride_lie_side_by_side(golden):
    tensors = golden.state_dict("vim_micro") | {"patch_embed.proj.weight": torch.zeros(32, 3, 4, 4)}
    assert FAMILY.infer_config(tensors, None).stride == 4


def drop_backward(tensors):
    return {name: tensor for name, tensor in tensors.items() if "_b" not in name.split("mixer.")[-1]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t | {"cls_token_head": t["cls_token"]}, r"two class tokens \(cls_token_head\)"),
        (lambda t: t | {"rope.freqs_cos": torch.zeros(4)}, "rotary position embeddings"),
        (lambda t: t | {"norm_f.bias": torch.zeros(32)}, r"LayerNorm in the place of RMSNorm \(norm_f.bias\)"),
        (lambda t: t | {"layers.0.gamma": torch.zeros(32)}, "a layer scale"),
        (drop_backward, "no backward branch of their own"),
        (lambda t: t | {"pos_embed": torch.zeros(1, 19, 32)}, r"pos_embed is \(1, 19, 32\), expected \(1, 17, 32\)"),
    ],
)
def test_what_was_never_published_is_refused_by_name(golden, tmp_path, change, said):
    torch.save({"model": change(golden.state_dict("vim_micro"))}, tmp_path / "vim.pth")
    with pytest.raises(CheckpointError, match=f"a Vim, but .*{said}"):
        read_checkpoint(tmp_path / "vim.pth")
