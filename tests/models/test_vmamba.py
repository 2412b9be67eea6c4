"""VMamba against the outputs of the authors' own network: every released form, and what must be refused."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from evm_deploy import scan
from evm_deploy.errors import CheckpointError
from evm_deploy.models import load, read_checkpoint
from evm_deploy.models.vmamba import FAMILY
from evm_deploy.models.vmamba.config import VARIANTS, VMambaConfig
from evm_deploy.scan import reference
from evm_deploy.scan.kernel_inputs import OrderedScanInputs
from evm_deploy.tolerances import GOLDEN_LOGITS, GOLDEN_SCAN

GOLDEN = Path(__file__).parent.parent / "golden"
OUTPUTS = np.load(GOLDEN / "vmamba.npz")
MICRO = (
    "v2_micro",
    "v2r2_micro",
    "v0_micro",
    "v1z_micro",
)  # gate, MLP, stem, downsample and ratio in all ways
CASES = [m.groups() for name in OUTPUTS.files if (m := re.fullmatch(r"(\w+)_logits_(\d+)x(\d+)", name))]
RELEASED = sorted(path.stem.removeprefix("state_dict_") for path in GOLDEN.glob("state_dict_vmamba_*.json"))


def build(golden, name):
    tensors = golden.state_dict(f"vmamba_{name}")
    network = FAMILY.network(FAMILY.infer_config(tensors, None))
    network.load_state_dict(tensors)
    return network.eval()


@pytest.mark.parametrize("name", RELEASED)
def test_the_configuration_is_that_of_the_tensors(golden, name):
    shapes = golden.shapes(name)
    with torch.device("meta"):
        config = FAMILY.infer_config({key: torch.empty(shape) for key, shape in shapes.items()}, None)
        found = FAMILY.network(config).state_dict()
    assert {key: tuple(tensor.shape) for key, tensor in found.items()} == shapes


@pytest.mark.parametrize("file", [name for name in RELEASED if re.search(r"_s\dl|v0_(tiny|small|base)", name)])
def test_published_networks_are_named(golden, file):
    with torch.device("meta"):
        config = FAMILY.infer_config({key: torch.empty(shape) for key, shape in golden.shapes(file).items()}, None)
    words = re.sub(r"vmamba_(backbone_)?(v2_)?", "", file).split("_")
    assert set(FAMILY.name_variant(config).split()) == set(words)


def test_a_network_of_no_published_size_has_no_name():
    assert FAMILY.name_variant(VMambaConfig((16, 32), (1, 1))) is None
    assert len(set(VARIANTS.values())) == len(VARIANTS)


@pytest.mark.parametrize("name", sorted({case[0] for case in CASES}))
@torch.inference_mode()
def test_logits(golden, name):
    network = build(golden, name)
    for height, width in (case[1:] for case in CASES if case[0] == name):
        image = golden.image(int(height), int(width))
        expected = torch.from_numpy(OUTPUTS[f"{name}_logits_{height}x{width}"])
        for form in (network, FAMILY.fold(network)):
            torch.testing.assert_close(form(image), expected, rtol=0, atol=GOLDEN_LOGITS)


@pytest.mark.parametrize("name", MICRO)
@torch.inference_mode()
def test_features_of_a_backbone(golden, name):
    """Of an odd size, whose stem and downsamples round as the authors' do."""
    network = build(golden, f"backbone_{name}")
    features = network(golden.image(75, 101))
    assert len(features) == 4
    for i, feature in enumerate(features):
        key = f"{name}_feature{i}_75x101"
        assert list(feature.shape) == OUTPUTS[f"{key}_shape"].tolist()
        values = feature.flatten()[:: int(OUTPUTS[f"{key}_stride"])]
        torch.testing.assert_close(values, torch.from_numpy(OUTPUTS[key]), rtol=0, atol=GOLDEN_LOGITS)


@pytest.mark.parametrize("size", [(14, 14), (9, 12)])
@pytest.mark.parametrize("name", MICRO)
@torch.inference_mode()
def test_the_mixer(golden, name, size):
    h, w = size
    expected = torch.from_numpy(OUTPUTS[f"{name}_ss2d_{h}x{w}"])
    values = np.random.default_rng(h * 100 + w).standard_normal(expected.shape)
    network = build(golden, name)
    for form in (network, FAMILY.fold(network)):
        found = form.layers[0].blocks[0].op(torch.from_numpy(values.astype(np.float32)))
        torch.testing.assert_close(found, expected, rtol=0, atol=GOLDEN_SCAN)


@torch.inference_mode()
def test_the_goldens_see_a_lost_carry(golden, monkeypatch):
    """Two halves scanned by themselves: what a network without the recurrence's state in the middle would give."""

    def scan_halves(inputs):
        half = inputs.u.shape[2] // 2
        u, delta, B, C = ([t[:, :, :half], t[:, :, half:]] for t in (inputs.u, inputs.delta, inputs.B, inputs.C))
        parts = [inputs._replace(u=u[i], delta=delta[i], B=B[i], C=C[i]) for i in range(2)]
        return torch.cat([reference.selective_scan(part) for part in parts], 2)

    monkeypatch.setattr(scan, "ordered_scan", lambda *arguments: OrderedScanInputs(*arguments).through(scan_halves))
    found = build(golden, "v0_micro")(golden.image(64, 96))
    assert (found - torch.from_numpy(OUTPUTS["v0_micro_logits_64x96"])).abs().max() > 10 * GOLDEN_LOGITS


@torch.inference_mode()
def test_old_names_convolutions_for_linear_layers_and_prefixes(golden, tmp_path):
    tensors = golden.state_dict("vmamba_v2_micro")
    old = {"module." + re.sub(r"^classifier\.", "", name): tensor for name, tensor in tensors.items()}
    old = {name: t[:, :, None, None] if re.search(r"(proj|fc\d)\.weight$", name) else t for name, t in old.items()}
    torch.save({"model": old, "epoch": 3}, tmp_path / "old.pth")
    found = load(tmp_path / "old.pth")(golden.image(64, 96))
    torch.testing.assert_close(found, build(golden, "v2_micro")(golden.image(64, 96)))


def test_both_sets_of_weights_of_the_training_script_have_to_be_chosen_between(golden, tmp_path):
    tensors = golden.state_dict("vmamba_v2_micro")
    averaged = tensors | {"classifier.head.bias": tensors["classifier.head.bias"] + 1}
    content = {"model": tensors, "model_ema": averaged, "max_accuracy": 82.5, "max_accuracy_ema": 82.6}
    torch.save(content, tmp_path / "vmamba.pth")
    with pytest.raises(CheckpointError, match=r"2 networks.*model_ema \(max_accuracy_ema 82.6\).*--key model_ema"):
        read_checkpoint(tmp_path / "vmamba.pth")
    chosen = read_checkpoint(tmp_path / "vmamba.pth", key="model_ema")
    assert (chosen.source_key, chosen.family) == ("model_ema", FAMILY)
    assert torch.equal(chosen.state_dict["classifier.head.bias"], averaged["classifier.head.bias"])


@pytest.mark.parametrize("form", ["v05_noz", "v3_noz", "v2", "v0"])
def test_forms_of_the_same_mathematics_are_taken(golden, tmp_path, form):
    config = {"MODEL": {"VSSM": {"SSM_FORWARDTYPE": form}}}
    torch.save({"model": golden.state_dict("vmamba_v2_micro"), "config": config}, tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth").family is FAMILY


@pytest.mark.parametrize(
    ("beside", "form"),
    [
        ({"config": {"MODEL": {"VSSM": {"SSM_FORWARDTYPE": "v05_nozact"}}}}, "v05_nozact"),
        ({"config": {"MODEL": {"VSSM": {"SSM_FORWARDTYPE": "v052d_noz"}}}}, "v052d_noz"),
        ({"meta": {"cfg": "model = dict(backbone=dict(type='MM_VSSM', forward_type='xv1a'))"}}, "xv1a"),
        ({"meta": {"config": 'forward_type="v05_noz_oact"'}}, "v05_noz_oact"),
    ],
)
def test_a_configuration_of_other_mathematics_is_refused(golden, tmp_path, beside, form):
    torch.save({"state_dict": golden.state_dict("vmamba_v2_micro"), **beside}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=f"a VMamba, but its configuration names the scan {form}"):
        read_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop("layers.1.blocks.0.op.out_norm.weight"), r"1 missing \(layers.1.blocks.0.op.out_norm.weight"),
        (lambda t: t.update(pos_embed=torch.zeros(1, 16, 4, 4)), r"1 unexpected \(pos_embed\)|head is not one"),
        (lambda t: t.update({"patch_embed.0.weight": torch.zeros(8, 1, 3, 3)}), "first convolution takes 1 channel"),
        (lambda t: t.update({"layers.0.blocks.0.op.Ds": torch.zeros(3)}), "of the wrong shape"),
    ],
)
def test_what_is_almost_a_vmamba_is_told(golden, tmp_path, change, said):
    tensors = golden.state_dict("vmamba_v2_micro")
    change(tensors)
    torch.save(tensors, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=f"a VMamba, but.*({said})"):
        read_checkpoint(tmp_path / "a.pth")
