"""The norms that mamba has as Triton kernels: with a residual that is added first, and with a gate."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evm_deploy.compat.refusals import check_absent
from evm_deploy.compat.scan_extensions import Given


def normalise(x: Tensor, weight: Given, bias: Given, eps: float, rms: bool) -> Tensor:
    """Over the last axis, in float32; written out, because not every exporter has RMSNorm."""
    y = x.float()
    if not rms:
        y = y - y.mean(-1, keepdim=True)
    y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + eps)
    y = y if weight is None else y * weight.float()
    return (y if bias is None else y + bias.float()).to(x.dtype)


def layer_norm_fn(
    x: Tensor,
    weight: Tensor,
    bias: Given = None,
    residual: Given = None,
    x1: Given = None,
    weight1: Given = None,
    bias1: Given = None,
    eps: float = 1e-6,
    dropout_p: float = 0.0,
    rowscale: Given = None,
    prenorm: bool = False,
    residual_in_fp32: bool = False,
    is_rms_norm: bool = False,
    return_dropout_mask: bool = False,
    **others: Any,
) -> Any:
    """The norm of x + residual, as x; with `prenorm` also that sum, in the dtype of the residual."""
    dropout = dropout_p or None
    check_absent("layer_norm_fn", x1=x1, weight1=weight1, bias1=bias1, rowscale=rowscale, dropout_p=dropout)
    check_absent("layer_norm_fn", return_dropout_mask=return_dropout_mask, **others)
    dtype = residual.dtype if residual is not None else torch.float32 if residual_in_fp32 else x.dtype
    total = x.float() if residual is None else x.float() + residual.float()
    y = normalise(total, weight, bias, eps, is_rms_norm).to(x.dtype)
    return (y, total.to(dtype)) if prenorm else y


def rms_norm_fn(*arguments: Any, **options: Any) -> Any:
    """The same with the root of the mean square alone."""
    return layer_norm_fn(*arguments, **{**options, "is_rms_norm": True})


def normalise_rows(x: Tensor, weight: Tensor, bias: Given, eps: float, *others: Any, **options: Any) -> tuple[Any, ...]:
    """What mamba calls below its autograd functions: the norm, and no statistics."""
    rms = options.pop("is_rms_norm", False)
    check_absent("_layer_norm_fwd", others=others or None, **options)
    return (normalise(x, weight, bias, eps, rms), None, None)


class RMSNormWithResidual(nn.Module):
    """mamba's RMSNorm of (..., hidden_size)."""

    def __init__(
        self, hidden_size: int, eps: float = 1e-5, dropout_p: float = 0.0, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        check_absent("RMSNorm", dropout_p=dropout_p or None)
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(hidden_size, device=device, dtype=dtype))
        self.register_parameter("bias", None)

    def forward(self, x: Tensor, residual: Given = None, prenorm: bool = False, residual_in_fp32: bool = False) -> Any:
        """The norm of x + residual; with `prenorm` that sum as well."""
        options = {"eps": self.eps, "prenorm": prenorm, "residual_in_fp32": residual_in_fp32}
        return rms_norm_fn(x, self.weight, None, residual, **options)


def gate_norm(
    x: Tensor,
    weight: Tensor,
    bias: Given,
    z: Given = None,
    eps: float = 1e-6,
    group_size: int | None = None,
    norm_before_gate: bool = True,
    is_rms_norm: bool = False,
) -> Tensor:
    """norm(x) silu(z), or norm(x silu(z)); each `group_size` channels are normalised by themselves."""
    given, x = x.dtype, x.float()
    gate = None if z is None else F.silu(z.float())
    if gate is not None and not norm_before_gate:
        x = x * gate
    groups = x.unflatten(-1, (-1, group_size)) if group_size is not None else x
    y = normalise(groups, None, None, eps, is_rms_norm)
    y = (y.flatten(-2) if group_size is not None else y) * weight.float()
    y = y if bias is None else y + bias.float()
    return (y if gate is None or not norm_before_gate else y * gate).to(given)


def gate_rms_norm(*arguments: Any, **options: Any) -> Tensor:
    """The same with the root of the mean square alone."""
    return gate_norm(*arguments, **{**options, "is_rms_norm": True})


class GatedRMSNorm(nn.Module):
    """mamba's RMSNorm of (..., hidden_size) with a gate."""

    def __init__(
        self,
        hidden_size: int,
        eps: float = 1e-5,
        group_size: int | None = None,
        norm_before_gate: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.eps, self.group_size, self.norm_before_gate = eps, group_size, norm_before_gate
        self.weight = nn.Parameter(torch.ones(hidden_size, device=device, dtype=dtype))
        self.register_parameter("bias", None)

    def forward(self, x: Tensor, z: Given = None) -> Tensor:
        """As `gate_rms_norm`."""
        return gate_rms_norm(x, self.weight, None, z, self.eps, self.group_size, self.norm_before_gate)


PLAIN = {
    "RMSNorm": RMSNormWithResidual,
    "layer_norm_fn": layer_norm_fn,
    "rms_norm_fn": rms_norm_fn,
    "_layer_norm_fwd": normalise_rows,
}
GATED = {
    "RMSNorm": GatedRMSNorm,
    "layernorm_fn": gate_norm,
    "rmsnorm_fn": gate_rms_norm,
}
