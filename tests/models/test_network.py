"""The network at any size, in training, in its ablations, and under torch.export."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.export import Dim

from evm_deploy.errors import InputError
from evm_deploy.models import EfficientVMamba, ModelConfig
from evm_deploy.models.layers.maps import PatchMerging
from evm_deploy.scan import reference
from evm_deploy.scan.cross_scan import cross_scan_2d
from evm_deploy.scan.inputs import ScanInputs

ABLATIONS = {
    "paper": {},
    "full cross-scan": {"scan": "ss2d"},
    "no convolution branch": {"conv_branch": False},
    "EVSS everywhere": {"blocks": ("evss",) * 4},
    "InRes everywhere": {"blocks": ("inres",) * 4},
    "InRes first": {"blocks": ("inres", "inres", "evss", "evss"), "scan": "ss2d"},
    "step 1": {"step": 1},
    "step 3": {"step": 3, "d_state": 5, "dt_rank": (1, 3, 1, 1)},
    "backbone": {"num_classes": None, "out_indices": (1, 3)},
}


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_parameter_of_every_ablation_learns(micro, name):
    model = micro(**ABLATIONS[name]).train()
    outputs = model(torch.randn(2, 3, 69, 77))  # two tokens in a group of the last stage, so that A counts
    total = sum(y.square().sum() for y in (outputs if isinstance(outputs, tuple) else (outputs,)))
    total.backward()
    without = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not without
    still = [key for key, p in model.named_parameters() if not p.grad.any()]
    assert not still


def test_a_few_steps_of_training_reduce_the_loss(micro):
    model = micro(num_classes=2).train()
    images, labels = torch.randn(8, 3, 32, 32), torch.arange(8) % 2
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    losses = []
    for _ in range(8):
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]


def test_training_uses_the_batch_and_evaluation_does_not(micro):
    model, x = micro(), torch.randn(4, 3, 32, 32)
    before = model.eval()(x)
    torch.testing.assert_close(before[:1], model(x[:1]))
    model.train()(x)
    assert not torch.equal(model.eval()(x), before)


@pytest.mark.parametrize("size", [(4, 4), (7, 5), (4, 33), (31, 36), (32, 32), (65, 34)])
@torch.inference_mode()
def test_any_size(micro, size):
    assert micro().eval()(torch.randn(1, 3, *size)).isfinite().all()
    sides = [side // 4 for side in size]
    for feature in micro(num_classes=None).eval()(torch.randn(1, 3, *size)):
        assert list(feature.shape[2:]) == sides
        sides = [-(-side // 2) for side in sides]


@pytest.mark.parametrize("shape", [(1, 3, 3, 64), (1, 3, 64, 3), (1, 1, 64, 64), (3, 64, 64), (1, 64, 64, 3)])
def test_what_is_no_image_is_said(micro, shape):
    with pytest.raises(InputError, match="at least 4") as caught:
        micro()(torch.zeros(shape))
    assert str(shape) in str(caught.value)


@torch.inference_mode()
def test_the_batch_is_independent(micro):
    model, x = micro().eval(), torch.randn(3, 3, 40, 36)
    torch.testing.assert_close(model(x), torch.cat([model(image[None]) for image in x]))


@torch.inference_mode()
def test_mixed_precision(micro):
    model, x = micro().eval(), torch.randn(1, 3, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(x)
    torch.testing.assert_close(found.float(), model(x), atol=2e-3, rtol=5e-2)


@settings(max_examples=20)
@given(h=st.integers(1, 7), w=st.integers(1, 7))
@torch.inference_mode()
def test_patch_merging_takes_four_neighbours(h, w):
    merge = PatchMerging(2, 3)
    merge.norm = torch.nn.Identity()
    merge.reduction = torch.nn.Identity()
    x = torch.randn(2, h, w, 2)
    y = merge(x)
    assert y.shape == (2, (h + 1) // 2, (w + 1) // 2, 8)
    for group, (row, column) in enumerate([(0, 0), (1, 0), (0, 1), (1, 1)]):
        found = y[..., 2 * group : 2 * group + 2]
        expected = x[:, row::2, column::2]
        n, m = expected.shape[1:3]
        assert torch.equal(found[:, :n, :m], expected)
        assert not found[:, n:].any()
        assert not found[:, :, m:].any()


@settings(max_examples=10)
@given(h=st.integers(1, 4), w=st.integers(1, 4))
def test_cross_scan_visits_every_token_in_four_orders(h, w):
    g = torch.Generator().manual_seed(10 * h + w)
    D, N, R = 3, 2, 2

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    x, x_proj, dt_proj, dt_bias = normal(1, h, w, D), normal(4, D, R + 2 * N), normal(4, R, D), normal(4, D)
    A, skip = -normal(4, N, D).exp(), normal(4, D)
    rows = [(i, j) for i in range(h) for j in range(w)]
    columns = [(i, j) for j in range(w) for i in range(h)]
    expected = torch.zeros_like(x)
    for k, order in enumerate([rows, columns, rows[::-1], columns[::-1]]):
        u = torch.stack([x[0, i, j] for i, j in order])  # (L, D)
        dt, B, C = (u @ x_proj[k]).split([R, N, N], -1)
        u, delta, B, C = (t[None, None] for t in (u, dt @ dt_proj[k], B, C))  # (1, 1, L, .) each
        y = reference.run(ScanInputs(u, delta, A[k, None], B, C, skip[k, None], dt_bias[k, None], True))
        for token, (i, j) in enumerate(order):
            expected[0, i, j] += y[0, 0, token]
    found = cross_scan_2d(*(t.float() for t in (x, x_proj, dt_proj, dt_bias, A, skip)))
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [{}, {"scan": "ss2d"}, *(pytest.param(c, marks=pytest.mark.slow) for c in ({"step": 3}, {"num_classes": None}))],
)
def test_export_with_dynamic_sizes(changes):
    model = EfficientVMamba(ModelConfig((16, 24), (1, 1), blocks=("evss", "inres"), **changes)).eval()
    shapes = ({0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC},)
    program = torch.export.export(model, (torch.randn(2, 3, 64, 67),), dynamic_shapes=shapes).module()
    for size in [(1, 3, 64, 64), (3, 3, 37, 30), (2, 3, 12, 19)]:
        x = torch.randn(size)
        torch.testing.assert_close(program(x), model(x))


def test_static_export_has_one_scan_a_block_and_no_pad(micro):
    program = torch.export.export(micro().eval(), (torch.randn(1, 3, 64, 64),))
    called = [str(node.target) for node in program.graph.nodes]
    assert called.count("evm.efficient_scan_2d.default") == 2
    assert not [name for name in called if ".pad" in name]


def test_network_without_evss_or_with_two_stages():
    config = ModelConfig((12, 20), (1, 2), num_classes=3, blocks=("inres", "evss"))
    assert EfficientVMamba(config).eval()(torch.randn(1, 3, 33, 20)).shape == (1, 3)
