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


def test_the_order_of_vmamba() -> None:
    """delta_bias in the place of z, delta_softplus in that of delta_bias; as many tokens as channels."""
    u, delta, A = normal(BATCH, DIM, DIM), normal(DIM, BATCH, DIM).transpose(0, 1), -normal(DIM, N).abs()
    B, D, bias = normal(BATCH, 3, N, DIM), normal(DIM), normal(DIM) + 1
    expected, _ = literal(u, delta, A, spread(B, BATCH, DIM, DIM), spread(B, BATCH, DIM, DIM), D, None, bias, True)
    rests = [(), (True, "oflex"), (False,), (1,), (1, 1, True), (True, None)]
    for rest in rests:
        torch.testing.assert_close(selective_scan_fn(u, delta, A, B, B, D, bias, True, *rest), expected)
    expected, _ = literal(u, delta.abs(), A, spread(B, BATCH, DIM, DIM), spread(B, BATCH, DIM, DIM), D)
    torch.testing.assert_close(selective_scan_fn(u, delta.abs(), A, B, B, D, None, False), expected)
    named = {"oflex": True, "backend": "mamba", "nrows": 4}
    torch.testing.assert_close(selective_scan_fn(u, delta.abs(), A, B, B, D, **named), expected)


def test_what_is_of_neither_order_is_refused() -> None:
    u, A, B, D = normal(BATCH, DIM, DIM), -normal(DIM, N).abs(), normal(BATCH, N, DIM), normal(DIM)
    for rest in ((D,), (D, D, True)):
        with pytest.raises(ValueError, match="z has the shape of delta_bias"):
            selective_scan_fn(u, u, A, B, B, D, *rest)
    with pytest.raises(ValueError, match="z has shape"):
        selective_scan_fn(u, u, A, B, B, D, u[:1])
    with pytest.raises(ValueError, match="11 arguments"):
        selective_scan_fn(u, u, A, B, B, D, u, D, True, False, 1)
    with pytest.raises(ValueError, match="no backend 'cudnn'"):
        selective_scan_fn(u, u, A, B, B, D, backend="cudnn")


def test_float_out_of_half_precision() -> None:
    u, A, B = normal(1, DIM, L), -normal(DIM, N).abs(), normal(1, N, L)
    halves = [u.half(), u.abs().half(), A.float(), B.half(), B.half()]
    y, _ = literal(*(t.double() for t in halves[:3]), *(spread(t.double(), 1, DIM, L) for t in halves[3:]))
    found = selective_scan_fn(*halves, oflex=True)
    assert isinstance(found, torch.Tensor)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), y, rtol=1e-4, atol=1e-4)
    assert selective_scan_fn(*halves).dtype == torch.float16  # type: ignore[union-attr]


def test_a_scan_and_its_last_state_are_two_operators_and_few_nodes() -> None:
    class Scan(torch.nn.Module):
        def forward(self, u: torch.Tensor, B: torch.Tensor) -> object:
            return selective_scan_fn(u, u, -torch.ones(DIM, N), B, B, return_last_state=True)

    program = torch.export.export(Scan(), (normal(1, DIM, L).float(), normal(1, N, L).float()))
    names = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert names.count("evm.selective_scan.default") == 2
    assert not {"aten.repeat_interleave.self_int", "aten.to.dtype"} & set(names)
    assert len([name for name in names if name != "aten.promote_types.default"]) <= 40
