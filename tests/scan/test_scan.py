"""Every torch form of the scan against the sequential reference in float64."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import evm_deploy.scan as scan
from evm_deploy.scan import atrous, chunked, reference, static
from evm_deploy.scan.inputs import Scan2DInputs, ScanInputs
from evm_deploy.tolerances import KERNEL_RELATIVE

Error = Callable[..., float]


def call_operator(inputs: ScanInputs | Scan2DInputs) -> torch.Tensor:
    """By the torch operator, as a network calls it."""
    operator = scan.selective_scan if isinstance(inputs, ScanInputs) else scan.efficient_scan_2d
    return operator(*inputs)


FORMS = (chunked.run, static.run, call_operator)


def scan_inputs(batch: int, K: int, L: int, D: int, N: int, seed: int, step: float = 1.0) -> list[torch.Tensor]:
    """u, delta, A, B, C, D, delta_bias of one scan, float64; delta is positive and about `step`."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    delta = step * torch.rand(batch, K, L, D, generator=g, dtype=torch.float64)
    A = -torch.arange(1, N + 1, dtype=torch.float64)[None, :, None] * torch.exp(0.1 * normal(K, N, D))
    return [
        normal(batch, K, L, D),
        delta,
        A,
        normal(batch, K, L, N),
        normal(batch, K, L, N),
        normal(K, D),
        normal(K, D),
    ]


def scan_2d_inputs(batch: int, H: int, W: int, D: int, N: int, R: int, step: int, seed: int) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    K = step * step

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    A = -torch.arange(1, N + 1, dtype=torch.float64)[None, :, None] * torch.exp(0.1 * normal(K, N, D))
    x_proj, dt_proj = normal(K, D, R + 2 * N) / D**0.5, normal(K, R, D)
    return [normal(batch, H, W, D), x_proj, dt_proj, normal(K, D) - 3, A, normal(K, D)]


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected).abs().max() / expected.abs().max().clamp_min(1e-30))


@settings(max_examples=40)
@given(
    batch=st.integers(1, 2),
    K=st.integers(1, 4),
    L=st.integers(1, 90),
    D=st.integers(1, 20),
    N=st.sampled_from([1, 2, 8, 16, 17]),
    step=st.sampled_from([1e-4, 0.1, 1.0, 20.0]),
    softplus=st.booleans(),
    seed=st.integers(0, 99),
)
def test_forms_agree_with_reference(
    scan_error: Error, batch: int, K: int, L: int, D: int, N: int, step: float, softplus: bool, seed: int
) -> None:
    inputs = scan_inputs(batch, K, L, D, N, seed, step)
    if not softplus:
        inputs[-1] = inputs[-1].abs()  # delta stays positive
    for form in FORMS:
        found = form(ScanInputs(*(t.float() for t in inputs), softplus))
        assert scan_error(found, inputs, softplus) <= KERNEL_RELATIVE


def test_long_scan_carries_over_every_level_of_chunks() -> None:
    inputs = scan_inputs(1, 1, chunked.CHUNK**2 + 5, 2, 2, seed=0, step=1e-3)[:-1]  # slow decay: the first token counts
    expected = reference.run(ScanInputs(*inputs))
    for form in FORMS:
        assert relative(form(ScanInputs(*(t.float() for t in inputs))), expected) <= KERNEL_RELATIVE
    cut = [t.clone() for t in inputs]
    cut[0][:, :, : chunked.CHUNK] = 0
    assert relative(reference.run(ScanInputs(*cut))[:, :, -1:], expected[:, :, -1:]) > 100 * KERNEL_RELATIVE


def test_decay_as_large_as_float32_allows() -> None:
    u, delta, A, B, C, D, _ = (t.float() for t in scan_inputs(1, 2, 60, 5, 4, seed=1, step=20.0))
    A = A * 1e37
    for form in FORMS:
        y = form(ScanInputs(u, delta, A, B, C, D))
        now = (C * B).sum(-1, keepdim=True) * delta * u + D[:, None] * u  # the state of the past is gone
        assert torch.isfinite(y).all()
        torch.testing.assert_close(y, now, rtol=1e-4, atol=1e-4)


@settings(max_examples=30)
@given(
    batch=st.integers(1, 2),
    H=st.integers(1, 13),
    W=st.integers(1, 13),
    D=st.integers(1, 20),
    N=st.sampled_from([1, 3, 16]),
    R=st.integers(1, 3),
    step=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_2d_forms_agree_with_reference(
    scan_2d_error: Error, batch: int, H: int, W: int, D: int, N: int, R: int, step: int, seed: int
) -> None:
    inputs = scan_2d_inputs(batch, H, W, D, N, R, step, seed)
    for form in FORMS:
        # the projections are float32 here, so their rounding passes through softplus and exp as well
        assert (
            scan_2d_error(form(Scan2DInputs(*(t.float() for t in inputs), step)), inputs, step) <= 5 * KERNEL_RELATIVE
        )


@settings(max_examples=20)
@given(H=st.integers(1, 9), W=st.integers(1, 9), step=st.integers(1, 4))
def test_scatter_inverts_gather(H: int, W: int, step: int) -> None:
    x = torch.arange(1.0, H * W + 1).view(1, H, W, 1)
    groups = atrous.gather(x, step)
    assert groups.shape == (1, step * step, -(-H // step) * -(-W // step), 1)
    assert sorted(groups[groups > 0].tolist()) == x.flatten().tolist()  # every token once, the rest is padding
    torch.testing.assert_close(atrous.scatter(groups, H, W, step), x)


def test_gather_order_is_that_of_the_released_model() -> None:
    x = torch.arange(16.0).view(1, 4, 4, 1)
    assert atrous.gather(x, 2)[0, :, :, 0].tolist() == [[0, 2, 8, 10], [4, 12, 6, 14], [1, 3, 9, 11], [5, 13, 7, 15]]


def test_gradients_are_those_of_the_reference() -> None:
    inputs = [t.requires_grad_() for t in scan_inputs(2, 2, 33, 3, 4, seed=2)]
    expected = torch.autograd.grad(reference.run(ScanInputs(*inputs, True)).square().sum(), inputs)
    found = torch.autograd.grad(scan.selective_scan(*inputs, True).square().sum(), inputs)
    torch.testing.assert_close(found, expected)
    inputs = [t.requires_grad_() for t in scan_2d_inputs(1, 5, 4, 3, 4, 2, 2, seed=3)]
    expected = torch.autograd.grad(reference.run(Scan2DInputs(*inputs)).square().sum(), inputs)
    found = torch.autograd.grad(scan.efficient_scan_2d(*inputs).square().sum(), inputs)
    torch.testing.assert_close(found, expected)


@pytest.mark.slow
def test_operators_are_well_formed() -> None:
    inputs = [t.requires_grad_() for t in scan_inputs(1, 2, 5, 3, 4, seed=4)]
    torch.library.opcheck(torch.ops.evm.selective_scan.default, (*inputs, True))
    torch.library.opcheck(torch.ops.evm.selective_scan.default, (*inputs[:5], None, None, False))
    inputs = [t.requires_grad_() for t in scan_2d_inputs(1, 5, 4, 3, 4, 2, 2, seed=5)]
    torch.library.opcheck(torch.ops.evm.efficient_scan_2d.default, (*inputs, 2))


def test_gradients_of_a_single_token() -> None:
    """The decay has no part in one token: its gradient is zero, not missing."""
    inputs = [t.requires_grad_() for t in scan_inputs(1, 1, 1, 3, 4, seed=6)]
    gradients = torch.autograd.grad(scan.selective_scan(*inputs, True).sum(), inputs)
    assert gradients[0].any()
    assert not gradients[2].any()
