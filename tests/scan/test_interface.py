"""`selective_scan_fn` against a literal loop in mamba's layout."""

import pytest
import torch
import torch.nn.functional as F

from evm_deploy.scan import selective_scan_fn


def literal(u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False):  # type: ignore[no-untyped-def]
    """y and the last state, channel by channel and token by token; B, C as (batch, dim, N, L)."""
    batch, dim, L = u.shape
    if delta_bias is not None:
        delta = delta + delta_bias[None, :, None]
    if delta_softplus:
        delta = F.softplus(delta)
    h = torch.zeros(batch, dim, A.shape[1], dtype=u.dtype)
    y = torch.zeros_like(u)
    for t in range(L):
        h = torch.exp(delta[:, :, t, None] * A) * h + (delta[:, :, t] * u[:, :, t])[..., None] * B[:, :, :, t]
        y[:, :, t] = (h * C[:, :, :, t]).sum(-1)
    if D is not None:
        y = y + D[None, :, None] * u
    return (y if z is None else y * F.silu(z)), h


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


def spread(t: torch.Tensor, batch: int, dim: int, L: int) -> torch.Tensor:
    """Any accepted layout of B or C -> (batch, dim, N, L)."""
    if t.dim() == 2:
        return t[None, :, :, None].expand(batch, dim, -1, L)
    t = t[:, None] if t.dim() == 3 else t
    return t.repeat_interleave(dim // t.shape[1], 1)


BATCH, DIM, L, N = 2, 6, 31, 4
LAYOUTS = {"mamba": (BATCH, N, L), "vmamba": (BATCH, 3, N, L), "constant": (DIM, N)}


@pytest.mark.parametrize("b", LAYOUTS)
@pytest.mark.parametrize("c", LAYOUTS)
@pytest.mark.parametrize("full", [True, False])
def test_agrees_with_literal_loop(b: str, c: str, full: bool) -> None:
    u, delta, z = normal(BATCH, DIM, L), normal(BATCH, DIM, L).abs(), normal(BATCH, DIM, L + 1)[:, :, :L]
    A, B, C = -normal(DIM, N).abs(), normal(*LAYOUTS[b]), normal(*LAYOUTS[c]) + 0.5
    extra = {"D": normal(DIM), "z": z, "delta_bias": normal(DIM) + 1, "delta_softplus": True} if full else {}
    y, state = literal(u, delta, A, spread(B, BATCH, DIM, L), spread(C, BATCH, DIM, L), **extra)
    found, last = selective_scan_fn(u, delta, A, B, C, **extra, return_last_state=True)
    torch.testing.assert_close(found, y)
    torch.testing.assert_close(last, state)
    torch.testing.assert_close(selective_scan_fn(u, delta, A, B, C, **extra), y)


def test_float32_through_the_native_kernel_where_built() -> None:
    u, delta, A, B = normal(1, DIM, L), normal(1, DIM, L).abs(), -normal(DIM, N).abs(), normal(1, N, L)
    y, _ = literal(u, delta, A, spread(B, 1, DIM, L), spread(B, 1, DIM, L))
    found = selective_scan_fn(*(t.float() for t in (u, delta, A, B, B)))
    torch.testing.assert_close(found.double(), y, rtol=1e-5, atol=1e-5)


def test_what_it_cannot_do_is_said() -> None:
    u, A, B = normal(1, DIM, L), normal(DIM, N), normal(1, N, L)
    with pytest.raises(ValueError, match="complex"):
        selective_scan_fn(u, u, torch.complex(A, A), B, B)
    with pytest.raises(ValueError, match="groups"):
        selective_scan_fn(u, u, A, normal(1, 4, N, L), B)
