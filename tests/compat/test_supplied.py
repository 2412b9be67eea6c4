"""Each supplied module, called as the repositories call it, against a literal loop over the tokens."""

import importlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from evm_deploy.compat import without_cuda
from evm_deploy.errors import InputError

BATCH, DIM, L, N = 2, 6, 19, 4


@pytest.fixture(autouse=True, scope="module")
def supplied() -> Iterator[None]:
    with without_cuda():
        yield


def module(name: str) -> Any:
    found = importlib.import_module(name)
    assert isinstance(found, ModuleType)
    return found


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def literal(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """y and the states (batch, dim, N, L), token by token, in float64; B, C (batch, dim, N, L), delta ready."""
    u, delta, A, B, C = (t.double() for t in (u, delta, A, B, C))
    h, states = torch.zeros(u.shape[0], *A.shape, dtype=torch.float64), []
    for t in range(u.shape[2]):
        h = torch.exp(delta[:, :, t, None] * A) * h + (delta[:, :, t] * u[:, :, t])[..., None] * B[..., t]
        states.append(h)
    found = torch.stack(states, -1)
    return (found * C).sum(2), found


class Arguments:
    """Of one scan, G groups sharing B and C."""

    def __init__(self, G: int = 1, dtype: torch.dtype = torch.float32) -> None:
        self.u, self.delta, self.z = (
            t.to(dtype) for t in (normal(BATCH, DIM, L), normal(BATCH, L, DIM).mT, normal(BATCH, DIM, L + 1)[..., 1:])
        )
        self.A, self.D, self.bias = -normal(DIM, N).abs(), normal(DIM) + 1, normal(DIM) - 1
        self.B, self.C = (normal(BATCH, G, N, L).to(dtype), normal(BATCH, N, G, L).transpose(1, 2).to(dtype))

    def expected(self, gated: bool = False, skip: bool = True) -> Tensor:
        """y of the literal loop."""
        y = self.states_and_y()[0] + (self.D.double()[:, None] * self.u.double() if skip else 0)
        return y * F.silu(self.z.double()) if gated else y

    def states_and_y(self) -> tuple[Tensor, Tensor]:
        delta = F.softplus(self.delta.double() + self.bias.double()[:, None])
        spread = [t.repeat_interleave(DIM // t.shape[1], 1) for t in (self.B, self.C)]
        return literal(self.u, delta, self.A, *spread)


def check(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(found.double(), expected.double(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ["core", "nrow", "ndstate", "oflex"])
@pytest.mark.parametrize("G", [1, 3])
def test_the_scans_of_vmamba(name: str, G: int) -> None:
    a = Arguments(G)
    fwd = module(f"selective_scan_cuda_{name}").fwd
    y, _, *rest = fwd(a.u, a.delta, a.A, a.B, a.C, a.D, a.bias, True, 1, *([True] if name == "oflex" else []))
    assert rest == []
    check(y, a.expected())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_in_and_float_out(dtype: torch.dtype) -> None:
    a = Arguments(3, dtype)
    given = (a.u, a.delta, a.A, a.B, a.C, a.D, a.bias, True, 1)
    y, _ = module("selective_scan_cuda_oflex").fwd(*given, True)
    assert y.dtype == torch.float32
    check(y, a.expected())  # the inputs are rounded, what is computed of them is not
    y, _ = module("selective_scan_cuda_oflex").fwd(*given, False)
    assert y.dtype == dtype
    check(y, a.expected(), 2e-2)


@pytest.mark.parametrize("gated", [True, False])
def test_the_scan_of_mamba(gated: bool) -> None:
    a = Arguments()
    given = (a.u, a.delta, a.A, a.B, a.C, a.D, a.z if gated else None, a.bias, True)
    y, states, *rest = module("selective_scan_cuda").fwd(*given)
    check(y, a.expected())
    assert states.shape == (BATCH, DIM, 1, 2 * N)
    assert states.isnan().all()  # nobody asked for them
    assert len(rest) == gated
    if gated:
        check(rest[0], a.expected(gated=True))


def test_the_last_state_where_it_is_asked_for() -> None:
    a = Arguments()

    def forward(return_last_state: bool) -> Any:
        """As mamba's autograd function has it."""
        _, x, *_ = module("selective_scan_cuda").fwd(a.u, a.delta, a.A, a.B, a.C, a.D, None, a.bias, True)
        return x[:, :, -1, 1::2] if return_last_state else None

    check(forward(True), a.states_and_y()[1][..., -1])


def test_every_state_of_spatial_mamba() -> None:
    a = Arguments()
    states, x = module("selective_scan_cuda_oflex_rh").fwd(a.u, a.delta, a.A, a.B, None, a.bias, True, 1, True)
    check(states, a.states_and_y()[1])
    check(x[:, :, -1, 1::2], a.states_and_y()[1][..., -1])


def gradients(run: Any, inputs: list[Tensor], grad: Tensor) -> list[Tensor]:
    leaves = [t.detach().double().requires_grad_() for t in inputs]
    return list(torch.autograd.grad(run(*leaves), leaves, grad.double()))


def run_literal(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, bias: Tensor) -> Tensor:
    delta = F.softplus(delta + bias[:, None])
    spread = [t.repeat_interleave(DIM // t.shape[1], 1) for t in (B, C)]
    return literal(u, delta, A, *spread)[0] + D[:, None] * u


def test_gradients_as_training_code_asks_for_them() -> None:
    a, grad = Arguments(3), normal(BATCH, DIM, L)
    inputs = [a.u, a.delta, a.A, a.B, a.C, a.D, a.bias]
    found = module("selective_scan_cuda_oflex").bwd(*inputs, grad, None, True, 1)
    for one, expected in zip(found, gradients(run_literal, inputs, grad), strict=True):
        check(one, expected, 1e-4)
    into = torch.empty(BATCH, DIM, L)
    given = (*inputs[:6], a.z, a.bias, grad, None, None, into, True, True)
    *found, of_z, gated = module("selective_scan_cuda").bwd(*given)

    def run_gated(*leaves: Tensor) -> Tensor:
        return run_literal(*leaves[:7]) * F.silu(leaves[7])

    for one, expected in zip([*found, of_z], gradients(run_gated, [*inputs, a.z], grad), strict=True):
        check(one, expected, 1e-4)
    assert torch.equal(into, of_z)
    check(gated, a.expected(gated=True))


@pytest.mark.parametrize("initial", [True, False])
def test_the_causal_convolution(initial: bool) -> None:
    x, weight, bias = normal(BATCH, DIM, L), normal(DIM, 4), normal(DIM)
    states = normal(BATCH, DIM, 3) if initial else torch.zeros(BATCH, DIM, 3)
    known = torch.cat([states, x], 2)
    expected = torch.stack([(known[..., t : t + 4] * weight).sum(-1) + bias for t in range(L)], -1)
    fn = module("causal_conv1d").causal_conv1d_fn
    given = {"initial_states": states} if initial else {}
    found, last = fn(x, weight, bias, **given, return_final_states=True, activation="silu")
    check(found, F.silu(expected))
    assert torch.equal(last, x[..., -3:])
    cuda = module("causal_conv1d_cuda")
    if initial:
        check(cuda.causal_conv1d_fwd(x, weight, bias, None, states, None, False), expected)
    else:
        check(cuda.causal_conv1d_fwd(x, weight, bias, None, True), F.silu(expected))
        check(cuda.causal_conv1d_fwd(x, weight, bias, None, None, None, True), F.silu(expected))
    kept = known[..., :4].clone()
    token = cuda.causal_conv1d_update(x[..., 1], kept, weight, bias, True)
    check(token, F.silu(expected)[..., 1])
    assert torch.equal(kept, known[..., 1:5])


def test_gradients_of_the_causal_convolution_go_where_they_are_wanted() -> None:
    x, weight, bias, grad = normal(BATCH, DIM, L), normal(DIM, 4), normal(DIM), normal(BATCH, DIM, L)
    pair = torch.empty(BATCH, 2 * DIM, L)
    into = pair.chunk(2, 1)[0]  # as mamba writes two gradients beside each other
    bwd = module("causal_conv1d_cuda").causal_conv1d_bwd
    found = bwd(x, weight, bias, grad, None, None, None, into, False, True)

    def run(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.silu(F.conv1d(F.pad(x, (3, 0)), weight.unsqueeze(1), bias, groups=DIM))

    for one, expected in zip(found[:3], gradients(run, [x, weight, bias], grad), strict=True):
        check(one, expected, 1e-4)
    assert torch.equal(pair[:, :DIM], found[0])


@pytest.mark.parametrize(("G", "heads", "chunk"), [(1, 3, 8), (2, 4, 256), (3, 3, 1)])
@pytest.mark.parametrize("full", [True, False])
def test_state_space_duality(G: int, heads: int, chunk: int, full: bool) -> None:
    p = 5
    x, dt, A = normal(BATCH, L, heads, p), normal(BATCH, L, heads), -normal(heads).abs()
    B, C, D, z = normal(BATCH, L, G, N), normal(BATCH, L, G, N) + 0.5, normal(heads, p), normal(BATCH, L, heads, p)
    bias = normal(heads)
    steps = F.softplus(dt + bias).clamp(0.1, 1.5) if full else dt.abs()
    y, last = torch.zeros(BATCH, L, heads, p), torch.zeros(BATCH, heads, p, N)
    for t in range(L):
        b, c = (s[:, t].repeat_interleave(heads // G, 1) for s in (B, C))  # (batch, heads, N)
        decay = torch.exp(steps[:, t] * A)[..., None, None]
        last = decay * last + (steps[:, t, :, None] * x[:, t])[..., None] * b[:, :, None]
        y[:, t] = (last * c[:, :, None]).sum(-1)
    scan = module("mamba_ssm.ops.triton.ssd_combined").mamba_chunk_scan_combined
    if full:
        options = {"D": D, "z": z, "dt_bias": bias, "dt_softplus": True, "dt_limit": (0.1, 1.5)}
        found, state = scan(x, dt, A, B, C, chunk, **options, return_final_states=True)
        check(state, last)
        y = (y + D * x) * F.silu(z)
    else:
        found = scan(x, steps, A, B, C, chunk)
    check(found, y)


def test_one_token_at_a_time_is_the_scan() -> None:
    heads, p = 2, 3
    x, dt, A = normal(BATCH, L, heads, p), normal(BATCH, L, heads), -normal(heads).abs()
    B, C, D, bias = normal(BATCH, L, 1, N), normal(BATCH, L, 1, N), normal(heads), normal(heads)
    scan = module("mamba_ssm.ops.triton.ssd_combined").mamba_chunk_scan_combined
    expected = scan(x, dt, A, B, C, 4, D=D, dt_bias=bias, dt_softplus=True)
    update = module("mamba_ssm.ops.triton.selective_state_update").selective_state_update
    state = torch.zeros(BATCH, heads, p, N)
    spread = [t[:, None].expand(heads, p) for t in (D, bias)]
    for t in range(L):
        steps = dt[:, t, :, None].expand(BATCH, heads, p)
        y = update(state, x[:, t], steps, A[:, None, None].expand(heads, p, N), B[:, t], C[:, t], *spread[:1],
                   dt_bias=spread[1], dt_softplus=True)  # fmt: skip
        check(y, expected[:, t])


@pytest.mark.parametrize("kind", ["Mamba", "Mamba2"])
def test_the_mixers(kind: str) -> None:
    torch.manual_seed(0)
    sizes = {"d_state": N, "headdim": 4, "ngroups": 2} if kind == "Mamba2" else {"d_state": N}
    mixer = getattr(module("mamba_ssm"), kind)(8, **sizes)
    assert {"A_log", "D", "conv1d.weight", "in_proj.weight", "out_proj.weight"} <= mixer.state_dict().keys()
    x = normal(BATCH, L, 8).requires_grad_()
    y = mixer(x)
    assert y.shape == x.shape
    (gradient,) = torch.autograd.grad(y[:, 4].sum(), x)
    assert gradient[:, :5].abs().amin((0, 2)).min() > 0  # what came before counts
    assert gradient[:, 5:].abs().max() == 0
    with pytest.raises(InputError, match="inference_params"):
        mixer(x, inference_params=object())


def test_mamba_is_what_its_parts_make() -> None:
    """Written out with the functions that the tests above hold against the loop."""
    torch.manual_seed(1)
    mixer, x = module("mamba_ssm").Mamba(8, d_state=N), normal(BATCH, L, 8)
    u, z = mixer.in_proj(x).chunk(2, -1)
    u = F.silu(mixer.conv1d(u.mT)[..., :L])
    dt, B, C = mixer.x_proj(u.mT).split([mixer.dt_rank, N, N], -1)
    delta = F.softplus(mixer.dt_proj(dt).mT)
    B, C = (t.mT[:, None].expand(-1, 16, -1, -1) for t in (B, C))
    y, _ = literal(u, delta, -mixer.A_log.exp(), B, C)
    y = (y + mixer.D[:, None] * u) * F.silu(z.mT)
    check(mixer(x), mixer.out_proj(y.mT.float()))


@pytest.mark.parametrize("name", ["layer_norm", "layernorm"])
def test_norms_with_a_residual(name: str) -> None:
    x, residual, weight = normal(BATCH, L, DIM), normal(L, BATCH, DIM).transpose(0, 1), normal(DIM)
    fn = module(f"mamba_ssm.ops.triton.{name}")
    total = x + residual
    expected = total / (total.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight
    y, kept = fn.rms_norm_fn(x, weight, None, residual=residual, eps=1e-5, prenorm=True, residual_in_fp32=True)
    check(y, expected)
    assert torch.equal(kept, total)
    bias = normal(DIM)
    check(fn.layer_norm_fn(x, weight, bias, eps=1e-5), F.layer_norm(x, (DIM,), weight, bias))
    norm = fn.RMSNorm(DIM, eps=1e-5)
    norm.weight.data.copy_(weight)
    check(norm(x, residual), expected)
    half, kept = norm(x.half(), prenorm=True, residual_in_fp32=True)
    assert (half.dtype, kept.dtype) == (torch.float16, torch.float32)
    with pytest.raises(InputError, match="rowscale"):
        fn.layer_norm_fn(x, weight, bias, rowscale=x)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("size", [None, 3])
def test_norms_with_a_gate(before: bool, size: int | None) -> None:
    x, z = normal(BATCH, L, DIM), normal(L, BATCH, DIM).transpose(0, 1)
    norm = module("mamba_ssm.ops.triton.layernorm_gated").RMSNorm(DIM, 1e-5, size, before)
    given = (x if before else x * F.silu(z)).unflatten(-1, (-1, size or DIM))
    expected = (given * (given.square().mean(-1, keepdim=True) + 1e-5).rsqrt()).flatten(-2)
    check(norm(x, z), expected * F.silu(z) if before else expected)


def test_a_triton_kernel_can_be_defined_and_not_started() -> None:
    triton, tl = module("triton"), module("triton.language")

    @triton.autotune(configs=[triton.Config({"BLOCK": 32}, num_warps=4)], key=["n"])
    @triton.heuristics({"even": lambda args: args["n"] % 2 == 0})
    @triton.jit(do_not_specialize=["n"])
    def add_one(x: tl.tensor, n: tl.constexpr) -> None:
        raise AssertionError

    assert triton.cdiv(7, 2) == 4
    assert triton.next_power_of_2(5) == 8
    with pytest.raises(InputError, match="the Triton kernel add_one is not supplied without CUDA"):
        add_one[(1,)](normal(3), 3)


@pytest.mark.parametrize(
    ("code", "named"),
    [
        ("import selective_scan_cuda_new", "selective_scan_cuda_new"),
        ("import mamba_ssm.ops.triton.ssd_bmm", "mamba_ssm.ops.triton.ssd_bmm"),
        ("from mamba_ssm.ops.triton.layer_norm import layer_norm_ref", "layer_norm_ref"),
        ("from causal_conv1d import causal_conv1d_varlen", "causal_conv1d_varlen"),
    ],
)
def test_what_is_not_supplied_fails_by_its_name(code: str, named: str) -> None:
    with pytest.raises(ImportError, match=named):
        exec(code, {})


def test_arguments_that_are_not_supplied_fail_by_their_names() -> None:
    x = normal(BATCH, DIM, L)
    with pytest.raises(InputError, match="seq_idx"):
        module("causal_conv1d").causal_conv1d_fn(x, normal(DIM, 4), seq_idx=torch.zeros(BATCH, L))
    scan = module("mamba_ssm.ops.triton.ssd_combined").mamba_chunk_scan_combined
    x, B = normal(BATCH, L, 2, 3), normal(BATCH, L, 1, N)
    with pytest.raises(InputError, match="initial_states"):
        scan(x, normal(BATCH, L, 2), -normal(2).abs(), B, B, 4, initial_states=B)
    with pytest.raises(InputError, match="MambaLMHeadModel"):
        module("mamba_ssm").MambaLMHeadModel()
    a = Arguments()
    with pytest.raises(InputError, match="complex"):
        module("selective_scan_cuda").fwd(a.u, a.delta, a.A + 0j, a.B, a.C, None, None, None, True)
