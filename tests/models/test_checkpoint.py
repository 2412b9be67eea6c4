"""Every form in which weights come, and one clear line for everything else."""

import dataclasses
import functools
import hashlib

import pytest
import safetensors.torch
import torch
from torch import nn

from evm_deploy.errors import CheckpointError, OptionError
from evm_deploy.models import EfficientVMamba, ModelConfig, load, open_file, read_checkpoint

ZIP_NAMES = ("weights.pth", "weights.pt", "weights.ckpt", "weights.bin")


@pytest.fixture
def weights(golden):
    return golden.state_dict("micro")


@pytest.fixture
def save(tmp_path):
    def write(content, name="weights.pth", **options):
        path = tmp_path / name
        if name.endswith(".safetensors"):
            safetensors.torch.save_file(content, path)
        else:
            torch.save(content, path, **options)
        return path

    return write


def refusal(path, **options) -> str:
    """The one line that a wrong checkpoint gives."""
    with pytest.raises(CheckpointError) as caught:
        load(path, **options)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    return str(caught.value)


def same(model, weights) -> bool:
    state = model.state_dict()
    return state.keys() == weights.keys() and all(torch.equal(state[key], t) for key, t in weights.items())


# Files, containers, prefixes, names


@pytest.mark.parametrize("name", [*ZIP_NAMES, "weights.safetensors", "no_suffix"])
def test_every_kind_of_file(golden, weights, save, name):
    path = save(weights, name)
    model = load(path)
    assert same(model, weights)
    assert not model.training
    assert model.config == golden.configs["micro"]
    with torch.inference_mode():
        assert golden.error("micro_logits_192x256", model(golden.image(192, 256))) < 5e-5


def test_older_format_of_torch(weights, save):
    assert same(load(save(weights, _use_new_zipfile_serialization=False)), weights)
    boxed = {"model": weights, "epoch": 3}
    assert same(load(save(boxed, _use_new_zipfile_serialization=False)), weights)


@pytest.mark.parametrize("name", ["state_dict", "model", "model_ema", "ema_model", "state_dict_ema"])
def test_every_container(weights, save, name):
    others = {"epoch": 299, "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}, "model_ema": None, "lr": 1e-3}
    checkpoint = read_checkpoint(save({**others, "state_dict": None, name: weights}))
    assert checkpoint.source_key == name
    assert same(checkpoint.build(), weights)


@pytest.fixture
def average(golden, weights):
    """Other weights of the same network."""
    return {k: torch.from_numpy(golden.weights.tensor(k, tuple(t.shape), salt=1)) for k, t in weights.items()}


def test_two_networks_are_never_chosen_between_in_silence(weights, average, save):
    path = save({"model_ema": average, "model": weights, "epoch": 299, "max_accuracy": 78.5, "max_accuracy_ema": 78.9})
    text = refusal(path)
    assert "2 networks with different weights" in text
    assert "model (epoch 299, max_accuracy 78.5); model_ema (max_accuracy_ema 78.9)" in text
    assert "--key model or --key model_ema" in text
    assert same(load(path, key="model"), weights)
    assert same(load(path, key="model_ema"), average)
    assert read_checkpoint(path, key="model_ema").source_key == "model_ema"
    with pytest.raises(OptionError, match="Use one of: model_ema, model"):
        load(path, key="ema")
    with pytest.raises(OptionError, match="Leave the key out"):
        load(save(weights), key="model")


def test_the_same_weights_twice_are_one_network(weights, save):
    copy = {key: t.clone() for key, t in weights.items()}
    assert same(load(save({"model": weights, "model_ema": copy})), weights)


def test_two_prefixes_in_one_state_dict(weights, average, save):
    """The shorter prefix is no better than the longer one."""
    both = {f"model.{key}": t for key, t in weights.items()}
    both |= {f"model_ema.module.{key}": t for key, t in average.items()}
    path = save({"state_dict": both})
    assert "--key state_dict.model or --key state_dict.model_ema.module" in refusal(path)
    assert same(load(path, key="state_dict.model"), weights)
    assert same(load(path, key="state_dict.model_ema.module"), average)
    assert "state_dict.model_ema.module" in refusal(path, key="state_dict")
    bare = save(weights | {f"ema.{key}": t for key, t in average.items()}, "bare.pth")
    assert same(load(bare, key="."), weights)
    assert same(load(bare, key="ema"), average)


def test_averages_of_mmengine_are_named(weights, average, save):
    path = save({"state_dict": average, "ema_state_dict": {f"module.{k}": t for k, t in weights.items()}})
    text = refusal(path)
    assert "state_dict (the averaged weights in mmengine); ema_state_dict (not averaged in mmengine)" in text
    assert same(load(path, key="ema_state_dict"), weights)


def test_an_incomplete_copy_is_no_alternative(weights, average, save):
    del average["patch_embed.0.bias"]
    assert same(load(save({"model": weights, "model_ema": average})), weights)


def test_the_only_entry_that_holds_a_network_is_taken(weights, save):
    checkpoint = read_checkpoint(save({"model_state_dict": weights, "loss": torch.tensor(0.5), "epoch": 3}))
    assert checkpoint.source_key == "model_state_dict"
    assert checkpoint.source == "model_state_dict (epoch 3)"
    assert same(checkpoint.build(), weights)


def test_all_networks_are_listed(weights, average, save):
    path = save({"model": weights, "model_ema": average, "epoch": 9})
    assert open_file(path).list_networks() == {"model": "model (epoch 9)", "model_ema": "model_ema"}
    assert open_file(save(weights, "bare.pth")).list_networks() == {None: "the file's own tensors"}


@pytest.mark.parametrize("prefix", ["module.", "module.module.", "backbone.", "module.backbone."])
def test_every_prefix(weights, save, prefix):
    assert same(load(save({"state_dict": {prefix + key: t for key, t in weights.items()}})), weights)


def test_old_names(weights, save):
    old = {}
    for key, t in weights.items():
        key = key.replace("patch_embed.0", "patch_embed.proj").replace("patch_embed.2", "patch_embed.norm")
        if ".blocks.0.norm." in key:
            key = key.replace(".norm.", ".ln_1.")
        old[key.replace(".op.", ".self_attention.").replace("classifier.", "")] = t
    assert {"norm.weight", "head.bias", "layers.0.blocks.0.ln_1.bias"} <= old.keys()
    assert same(load(save({"model": {f"module.{key}": t for key, t in old.items()}})), weights)


@pytest.mark.parametrize(
    ("part", "wrapper"),
    [
        ("layers.0.blocks.0.", "_checkpoint_wrapped_module."),
        ("layers.0.", "_fsdp_wrapped_module."),
        ("patch_embed.", "_orig_mod."),
        ("patch_embed.0.", "module."),
        ("layers.", "_fsdp_wrapped_module._fpw_module."),
    ],
)
def test_wrappers_within_names(weights, save, part, wrapper):
    wrapped = {f"_orig_mod.module.{key.replace(part, part + wrapper)}": t for key, t in weights.items()}
    assert any(wrapper in key.removeprefix("_orig_mod.module.") for key in wrapped)
    assert same(load(save({"state_dict": wrapped})), weights)


def test_two_tensors_of_one_name_are_not_chosen_between(weights, save):
    weights["classifier._orig_mod.head.bias"] = weights["classifier.head.bias"] + 1
    assert "classifier._orig_mod.head.bias" in refusal(save(weights))


def test_leftovers_of_counting_tools(weights, save):
    """As thop leaves them in every module."""
    counted = dict(weights)
    for name in ("", "patch_embed.", "layers.0.blocks.0."):
        counted |= {f"{name}total_ops": torch.zeros(1, dtype=torch.float64), f"{name}total_params": torch.zeros(1)}
    checkpoint = read_checkpoint(save({"model": counted, "act": functools.partial(nn.GELU, "tanh")}))
    assert same(checkpoint.build(), weights)
    said = "ignored in the checkpoint: 6 entries (total_ops, total_params, patch_embed.total_ops and 3 more)"
    assert checkpoint.describe_ignored() == f"{said}; objects of functools.partial, {nn.GELU.__module__}.GELU"
    assert read_checkpoint(save(weights)).describe_ignored() is None


# Almost ours


@pytest.mark.parametrize("name", ["head", "fc", "classifier.head.1", "head.1", "classifier.1", "cls_head.fc"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_head_that_is_one_linear_layer(golden, weights, save, name, bias):
    changed = {key.replace("classifier.head", name): t for key, t in weights.items()}
    if not bias:
        del changed[f"{name}.bias"]
        weights["classifier.head.bias"] = torch.zeros(10)
    checkpoint = read_checkpoint(save({"model": {f"module.{key}": t for key, t in changed.items()}}))
    assert same(checkpoint.build(), weights)
    assert checkpoint.config == golden.configs["micro"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"patch_embed.0.weight": (16, 1, 4, 4)}, "its first convolution takes 1 channel, and images have 3"),
        ({"patch_embed.0.weight": (16, 13, 4, 4)}, "its first convolution takes 13 channels, and images have 3"),
        ({"patch_embed.0.weight": (16, 3, 2, 2)}, "its patches are of 2x2 pixels, not of 4x4"),
        (
            {"classifier.head.weight": None, "classifier.head.bias": None, "head.0.weight": (64, 128),
             "head.0.bias": (64,), "head.2.weight": (10, 64), "head.2.bias": (10,)},
            "its head is not one linear layer (classifier.head.0.weight, classifier.head.0.bias, "
            "classifier.head.2.weight, ...)",
        ),
        ({"layers.0.blocks.0.gamma": (16,)}, "1 unexpected (layers.0.blocks.0.gamma)"),
        ({"layers.1.blocks.0.se.norm.bias": None}, "1 missing (layers.1.blocks.0.se.norm.bias)"),
    ],
)  # fmt: skip
def test_almost_one_of_ours(weights, save, changes, words):
    for name, shape in changes.items():
        weights[name] = torch.ones(shape) if shape else None
    said = refusal(save({"model": {name: t for name, t in weights.items() if t is not None}}))
    assert f"holds an EfficientVMamba, but {words}. Fix: Export the network as a module" in said


def test_a_detector_gives_its_backbone(golden, save):
    backbone = golden.state_dict("backbone_micro")
    detector = {f"backbone.{key}": t for key, t in backbone.items()} | {"neck.fpn.weight": torch.ones(2, 2)}
    checkpoint = read_checkpoint(save({"state_dict": detector, "meta": {"epoch": 12}}))
    assert checkpoint.ignored == ("neck.fpn.weight",)
    model = checkpoint.build()
    assert same(model, backbone)
    features = model(torch.randn(1, 3, 64, 64))
    assert [tuple(f.shape) for f in features] == [(1, 16 << i, 16 >> i, 16 >> i) for i in range(4)]


def test_a_backbone_of_some_stages(golden, save):
    backbone = golden.state_dict("backbone_micro")
    some = {key: t for key, t in backbone.items() if not key.startswith(("outnorm0", "outnorm2"))}
    assert load(save(some)).config.out_indices == (1, 3)


def test_provenance(weights, save):
    path = save({"state_dict": {**weights, "epoch": 7}})
    checkpoint = read_checkpoint(path)
    assert checkpoint.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (checkpoint.source_key, checkpoint.ignored) == ("state_dict", ("epoch",))


# Configuration from shapes


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig((48, 96, 192, 384), (2, 2, 9, 2)),
        ModelConfig((96, 192, 384, 768), (1, 1, 1, 1), num_classes=37),
        ModelConfig((16, 40, 24, 30), (1, 2, 3, 1), d_state=1, dt_rank=(2, 5, 2, 2)),
        ModelConfig((16, 32, 64, 128), (2, 1, 1, 3), blocks=("evss",) * 4, conv_branch=False),
        ModelConfig((16, 32, 64, 128), (2, 1, 1, 3), blocks=("inres", "inres", "evss", "evss"), step=3),
        ModelConfig((16, 32, 64, 128), (1, 1, 1, 1), blocks=("inres",) * 4),
        ModelConfig((16, 32), (12, 1), blocks=("evss", "inres"), num_classes=None, step=1),
        ModelConfig((8, 16, 32, 64), (1, 1, 1, 1), num_classes=None, out_indices=(2, 3)),
    ],
)
def test_configuration_comes_from_the_shapes(save, config):
    model = EfficientVMamba(config)
    assert read_checkpoint(save(model.state_dict())).config == config


def test_the_cross_scan_is_asked_for(save):
    config = ModelConfig((16, 32, 64, 128), (1, 1, 1, 1), scan="ss2d")
    model = EfficientVMamba(config).eval()
    path, x = save(model.state_dict()), torch.randn(1, 3, 64, 64)
    assert load(path).config == dataclasses.replace(config, scan="es2d")
    found = load(path, scan="ss2d")
    assert found.config == config
    torch.testing.assert_close(found(x), model(x))
    with pytest.raises(OptionError, match="no scan"):
        load(path, scan="ss3d")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(weights, save, dtype):
    other = {key: t.to(dtype) if t.is_floating_point() else t for key, t in weights.items()}
    expected = {key: t.float() if t.is_floating_point() else t for key, t in other.items()}
    assert same(load(save(other)), expected)


def test_counters_of_batch_norm_may_be_missing(weights, save):
    fewer = {key: t for key, t in weights.items() if not key.endswith("num_batches_tracked")}
    state = load(save(fewer)).state_dict()
    assert all(torch.equal(state[key], t) for key, t in fewer.items())


def test_folded_on_request(golden, weights, save):
    path, x = save(weights), golden.image(192, 256)
    folded = load(path, fold=True)
    assert not [m for m in folded.modules() if isinstance(m, nn.BatchNorm2d)]
    torch.testing.assert_close(folded(x), load(path)(x), atol=1e-5, rtol=0)


def test_loaded_networks_share_nothing(weights, save):
    checkpoint = read_checkpoint(save(weights))
    first = checkpoint.build()
    first.patch_embed[0].weight.data.zero_()
    assert same(checkpoint.build(), weights)
    assert first.patch_embed[0].weight.requires_grad


# What is not a checkpoint of ours


def test_no_file(tmp_path):
    assert "There is no file" in refusal(tmp_path / "none.pth")


def test_a_folder(tmp_path):
    assert "is not a file" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_an_empty_file(tmp_path, name):
    (tmp_path / name).touch()
    assert "is an empty file" in refusal(tmp_path / name)


def test_a_text_file(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_text("the weights")
    assert "is not a checkpoint" in refusal(path)


def resnet():
    names = ["conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var"]
    names += [f"layer{i}.0.conv{j}.weight" for i in range(1, 5) for j in (1, 2)] + ["fc.weight", "fc.bias"]
    return {name: torch.ones(4, 4) for name in names}


def test_a_resnet_lists_its_keys(save):
    said = refusal(save({"state_dict": resnet()}))
    assert "2 missing (patch_embed.0.weight; layers.0)" in said
    assert "15 unexpected (conv1.weight; bn1.weight; bn1.bias and 12 more)" in said


def test_missing_unexpected_and_wrong_keys_are_counted_and_named(weights, save):
    for key in list(weights):
        if key.startswith("layers.2.1.se."):
            del weights[key]
    weights["layers.0.blocks.0.mlp.fc1.weight"] = torch.ones(1)
    weights["classifier.norm.bias"] = torch.ones(127)
    said = refusal(save(weights))
    assert "4 missing (layers.2.1.se.conv_reduce.weight; " in said
    assert "and 1 more)" in said
    assert "1 unexpected (layers.0.blocks.0.mlp.fc1.weight)" in said
    assert "1 of the wrong shape (classifier.norm.bias is (127,), expected (128,))" in said


@pytest.mark.parametrize("dropped", ["layers.1.", "patch_embed.0.weight", "classifier.", "layers.0.blocks.0.norm."])
def test_a_part_that_is_missing_is_named(weights, save, dropped):
    said = refusal(save({key: t for key, t in weights.items() if not key.startswith(dropped)}))
    assert dropped.rstrip(".") in said


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {"state_dict": None}, torch.ones(3), {}])
def test_no_state_dict(save, content):
    assert "holds no state dict" in refusal(save(content))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_named(weights, save, value):
    weights["layers.1.blocks.0.op.A_logs"][3, 2] = value
    assert "layers.1.blocks.0.op.A_logs has values that are not finite" in refusal(save(weights))


def test_float64_that_float32_cannot_hold(weights, save):
    weights["classifier.head.bias"] = torch.full((10,), 1e300, dtype=torch.float64)
    assert "classifier.head.bias has values that are not finite" in refusal(save(weights))


def test_integers_in_the_place_of_weights(weights, save):
    weights["classifier.head.bias"] = torch.ones(10, dtype=torch.int64)
    assert "classifier.head.bias is a tensor of int64" in refusal(save(weights))


def test_a_small_file_cannot_declare_large_tensors(weights, save):
    weights["classifier.head.weight"] = torch.ones(1).expand(1 << 40, 128)
    assert "declares more weights than it holds" in refusal(save(weights))


@pytest.mark.filterwarnings("ignore:Sparse CSR")
@pytest.mark.parametrize("change", [torch.Tensor.to_sparse, torch.Tensor.to_sparse_csr, torch.Tensor.cfloat])
def test_other_tensors_in_the_place_of_weights(weights, save, change):
    weights["classifier.head.weight"] = change(weights["classifier.head.weight"])
    assert "classifier.head.weight is a tensor of " in refusal(save(weights))


@pytest.mark.parametrize("stage", ["9" * 5000, "9" * 9, "\N{ARABIC-INDIC DIGIT FOUR}"])
def test_stages_with_absurd_numbers(weights, save, stage):
    weights[f"layers.{stage}.blocks.0.op.A_logs"] = torch.ones(1, 1)
    refusal(save(weights))
