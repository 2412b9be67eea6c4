"""What `mamba_ssm` offers: its mixers, with its names of weights, and the functions that they are made of."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evm_deploy.compat.causal_conv1d import causal_conv1d_fn
from evm_deploy.compat.norms import GatedRMSNorm
from evm_deploy.compat.refusals import check_absent
from evm_deploy.compat.scan_extensions import Given
from evm_deploy.compat.ssd import ANY_STEP, mamba_split_conv1d_scan_combined
from evm_deploy.scan.interface import selective_scan_fn


def mamba_inner_fn_no_out_proj(
    xz: Tensor,
    conv1d_weight: Tensor,
    conv1d_bias: Given,
    x_proj_weight: Tensor,
    delta_proj_weight: Tensor,
    A: Tensor,
    B: Given = None,
    C: Given = None,
    D: Given = None,
    delta_bias: Given = None,
    B_proj_bias: Given = None,
    C_proj_bias: Given = None,
    delta_softplus: bool = True,
    checkpoint_lvl: int = 1,
    **others: Any,
) -> Tensor:
    """xz (batch, 2 dim, L), inputs and gates, through convolution, projections and scan: (batch, dim, L)."""
    check_absent("mamba_inner_fn", **others)
    x, z = xz.chunk(2, 1)
    x = causal_conv1d_fn(x, conv1d_weight, conv1d_bias, activation="silu")
    rank, N = delta_proj_weight.shape[1], A.shape[1]
    sizes = [rank, *[N for given in (B, C) if given is None]]
    dt, *projected = F.linear(x.transpose(1, 2), x_proj_weight).split(sizes, -1)
    if B is None:
        B = _add(projected.pop(0), B_proj_bias).transpose(1, 2)
    if C is None:
        C = _add(projected.pop(0), C_proj_bias).transpose(1, 2)
    delta = F.linear(dt, delta_proj_weight).transpose(1, 2)
    y = selective_scan_fn(x, delta, A, B, C, D, z, delta_bias, delta_softplus)
    assert isinstance(y, Tensor)
    return y


def mamba_inner_fn(
    xz: Tensor,
    conv1d_weight: Tensor,
    conv1d_bias: Given,
    x_proj_weight: Tensor,
    delta_proj_weight: Tensor,
    out_proj_weight: Tensor,
    out_proj_bias: Given,
    *arguments: Any,
    **options: Any,
) -> Tensor:
    """The same, and the last projection: (batch, L, .)."""
    weights = (conv1d_weight, conv1d_bias, x_proj_weight, delta_proj_weight)
    y = mamba_inner_fn_no_out_proj(xz, *weights, *arguments, **options)
    return F.linear(y.transpose(1, 2), out_proj_weight, out_proj_bias)


def _add(x: Tensor, bias: Given) -> Tensor:
    return x if bias is None else x + bias


def _draw_step_bias(dim: int, least: float, most: float, floor: float) -> Tensor:
    """Biases whose softplus is log-uniform in least..most."""
    steps = torch.exp(torch.empty(dim).uniform_(math.log(least), math.log(most))).clamp(min=floor)
    return steps + torch.log(-torch.expm1(-steps))


class Mamba(nn.Module):
    """mamba_ssm's `Mamba`: (batch, L, d_model) -> the same. Of its caches for generation it knows nothing."""

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        dt_rank: int | str = "auto",
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        dt_init: str = "random",
        dt_scale: float = 1.0,
        dt_init_floor: float = 1e-4,
        conv_bias: bool = True,
        bias: bool = False,
        use_fast_path: bool = True,
        layer_idx: int | None = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        dim = int(expand * d_model)
        rank = math.ceil(d_model / 16) if isinstance(dt_rank, str) else dt_rank
        self.d_model, self.d_state, self.d_conv, self.expand = d_model, d_state, d_conv, expand
        self.d_inner, self.dt_rank, self.use_fast_path, self.layer_idx = dim, rank, use_fast_path, layer_idx
        self.activation, self.act = "silu", nn.SiLU()
        self.in_proj = nn.Linear(d_model, 2 * dim, bias=bias)
        self.conv1d = nn.Conv1d(dim, dim, d_conv, groups=dim, padding=d_conv - 1, bias=conv_bias)
        self.x_proj = nn.Linear(dim, rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(rank, dim)
        size = rank**-0.5 * dt_scale
        with torch.no_grad():
            self.dt_proj.weight.uniform_(-size, size) if dt_init == "random" else self.dt_proj.weight.fill_(size)
            self.dt_proj.bias.copy_(_draw_step_bias(dim, dt_min, dt_max, dt_init_floor))
        self.A_log = nn.Parameter(torch.arange(1.0, d_state + 1).log().repeat(dim, 1))
        self.D = nn.Parameter(torch.ones(dim))
        self.out_proj = nn.Linear(dim, d_model, bias=bias)
        _mark(self, self.dt_proj.bias)
        self.to(device=device, dtype=dtype)

    def forward(self, hidden_states: Tensor, inference_params: Any = None) -> Tensor:
        """(batch, L, d_model) -> (batch, L, d_model)."""
        check_absent("Mamba", inference_params=inference_params)
        weights = (self.conv1d.weight, self.conv1d.bias, self.x_proj.weight, self.dt_proj.weight)
        projection = (self.out_proj.weight, self.out_proj.bias)
        options: dict[str, Any] = {"D": self.D.float(), "delta_bias": self.dt_proj.bias.float(), "delta_softplus": True}
        xz = self.in_proj(hidden_states).transpose(1, 2)
        return mamba_inner_fn(xz, *weights, *projection, -torch.exp(self.A_log.float()), **options)


class Mamba2(nn.Module):
    """mamba_ssm's `Mamba2`: (batch, L, d_model) -> the same, on one device."""

    def __init__(
        self,
        d_model: int,
        d_state: int = 128,
        d_conv: int = 4,
        conv_init: float | None = None,
        expand: int = 2,
        headdim: int = 64,
        d_ssm: int | None = None,
        ngroups: int = 1,
        A_init_range: tuple[float, float] = (1, 16),
        D_has_hdim: bool = False,
        rmsnorm: bool = True,
        norm_before_gate: bool = False,
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        dt_init_floor: float = 1e-4,
        dt_limit: tuple[float, float] = ANY_STEP,
        bias: bool = False,
        conv_bias: bool = True,
        chunk_size: int = 256,
        use_mem_eff_path: bool = True,
        layer_idx: int | None = None,
        process_group: Any = None,
        sequence_parallel: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check_absent("Mamba2", process_group=process_group)
        inner = expand * d_model
        dim = inner if d_ssm is None else d_ssm
        heads, mixed = dim // headdim, dim + 2 * ngroups * d_state
        self.d_model, self.d_state, self.d_conv, self.expand, self.d_inner = d_model, d_state, d_conv, expand, inner
        self.d_ssm, self.headdim, self.nheads, self.ngroups = dim, headdim, heads, ngroups
        self.dt_limit, self.chunk_size, self.D_has_hdim, self.rmsnorm = dt_limit, chunk_size, D_has_hdim, rmsnorm
        self.norm_before_gate, self.layer_idx, self.activation = norm_before_gate, layer_idx, "silu"
        self.in_proj = nn.Linear(d_model, 2 * inner + 2 * ngroups * d_state + heads, bias=bias)
        self.conv1d = nn.Conv1d(mixed, mixed, d_conv, groups=mixed, padding=d_conv - 1, bias=conv_bias)
        if conv_init is not None:
            nn.init.uniform_(self.conv1d.weight, -conv_init, conv_init)
        self.dt_bias = nn.Parameter(_draw_step_bias(heads, dt_min, dt_max, dt_init_floor))
        self.A_log = nn.Parameter(torch.empty(heads).uniform_(*A_init_range).log())
        self.D = nn.Parameter(torch.ones(dim if D_has_hdim else heads))
        if rmsnorm:
            self.norm = GatedRMSNorm(dim, 1e-5, dim // ngroups, norm_before_gate)
        self.out_proj = nn.Linear(inner, d_model, bias=bias)
        _mark(self, self.dt_bias)
        self.to(device=device, dtype=dtype)

    def forward(
        self,
        u: Tensor,
        seqlen: int | None = None,
        seq_idx: Given = None,
        cu_seqlens: Given = None,
        inference_params: Any = None,
    ) -> Tensor:
        """(batch, L, d_model) -> (batch, L, d_model); or with `seqlen` (batch * L, d_model) for both."""
        check_absent("Mamba2", seq_idx=seq_idx, cu_seqlens=cu_seqlens, inference_params=inference_params)
        x = u if seqlen is None else u.unflatten(0, (-1, seqlen))
        y: Tensor = mamba_split_conv1d_scan_combined(
            self.in_proj(x),
            self.conv1d.weight,
            self.conv1d.bias,
            self.dt_bias,
            -torch.exp(self.A_log.float()),
            self.D.unflatten(0, (-1, self.headdim)) if self.D_has_hdim else self.D,
            self.chunk_size,
            dt_limit=self.dt_limit,
            rmsnorm_weight=self.norm.weight if self.rmsnorm else None,
            rmsnorm_eps=self.norm.eps if self.rmsnorm else 1e-6,
            outproj_weight=self.out_proj.weight,
            outproj_bias=self.out_proj.bias,
            headdim=self.headdim,
            ngroups=self.ngroups,
            norm_before_gate=self.norm_before_gate,
        )
        return y if seqlen is None else y.flatten(0, 1)


def _mark(mixer: Any, step_bias: Any) -> None:
    """Tells training code, as mamba does, which parameters are neither decayed nor drawn again."""
    step_bias._no_reinit = True
    for parameter in (mixer.A_log, mixer.D):
        parameter._no_weight_decay = True


INTERFACE = {
    "selective_scan_fn": selective_scan_fn,
    "selective_scan_ref": selective_scan_fn,
    "mamba_inner_fn": mamba_inner_fn,
    "mamba_inner_ref": mamba_inner_fn,
    "mamba_inner_fn_no_out_proj": mamba_inner_fn_no_out_proj,
}
