"""Folding is exact, complete, and leaves the network that it is given alone."""

import pytest
import torch
from torch import nn

from evm_deploy.models import fold_preprocessing
from evm_deploy.models.efficientvmamba import fold

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize("name", ["micro", "tiny", "backbone_micro"])
@torch.inference_mode()
def test_folded_agrees_on_the_goldens(golden, name):
    model, x = golden.model(name), golden.image(192, 256)
    torch.testing.assert_close(fold(model)(x), model(x), atol=1e-5, rtol=0)


@pytest.mark.parametrize("changes", [{"scan": "ss2d"}, {"conv_branch": False}, {"step": 3}])
@torch.inference_mode()
def test_folded_ablations_agree(micro, changes):
    model, x = micro(**changes), torch.randn(2, 3, 41, 50)
    for module in model.modules():  # statistics that are not the identity
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    model.eval()
    torch.testing.assert_close(fold(model)(x), model(x), atol=1e-5, rtol=1e-5)


def test_nothing_foldable_is_left(golden):
    model = golden.model("micro")
    folded = fold(model)
    assert not [m for m in folded.modules() if isinstance(m, nn.BatchNorm2d)]
    program = torch.export.export(folded, (torch.randn(1, 3, 64, 64),))
    called = {str(node.target) for node in program.graph.nodes}
    assert not [name for name in called if "batch_norm" in name or "exp.default" in name]
    assert "A_logs" not in " ".join(folded.state_dict())


def test_the_given_network_is_untouched(golden):
    model = golden.model("micro").train()
    before = {key: t.clone() for key, t in model.state_dict().items()}
    folded = fold_preprocessing(fold(model), MEAN, STD)
    for t in (*folded.parameters(), *folded.buffers()):
        t.data.zero_()
    assert model.training
    assert all(p.requires_grad for p in model.parameters())
    assert all(torch.equal(t, before[key]) for key, t in model.state_dict().items())
    assert before.keys() == model.state_dict().keys()


def test_folding_twice_is_folding_once(golden):
    once = fold(golden.model("micro"))
    twice = fold(once)
    assert all(torch.equal(t, once.state_dict()[key]) for key, t in twice.state_dict().items())


@pytest.mark.parametrize("folded_first", [False, True])
@torch.inference_mode()
def test_preprocessing_folds_into_the_stem(golden, folded_first):
    model = golden.model("micro")
    pixels = torch.randint(0, 256, (1, 61, 50, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    x = pixels.permute(0, 3, 1, 2).float()
    normalised = (x / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    found = fold_preprocessing(fold(model) if folded_first else model, MEAN, STD)(x)
    torch.testing.assert_close(found, model(normalised), atol=2e-5, rtol=0)
    assert (model(x) - model(normalised)).abs().max() > 1e-3


def test_half_precision_keeps_the_recurrence_in_float32(golden):
    folded = fold(golden.model("micro"))
    A = folded.layers[0].blocks[0].op.A.clone()
    half = folded.half()
    mixer = half.layers[0].blocks[0].op
    assert (mixer.x_proj.dtype, mixer.in_x.weight.dtype) == (torch.float16, torch.float16)
    assert (mixer.dt_bias.dtype, mixer.D.dtype) == (torch.float32, torch.float32)
    assert torch.equal(mixer.A, A)
