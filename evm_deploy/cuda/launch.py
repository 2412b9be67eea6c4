"""The two operators on PyTorch's CUDA tensors: one launch each, on the current stream, without waiting for it."""

from __future__ import annotations

import dataclasses
from functools import cache

import torch
from torch import Tensor

from evm_deploy.cuda import driver
from evm_deploy.cuda.compile import compile_kernel
from evm_deploy.cuda.driver import enqueue, sm_count
from evm_deploy.cuda.plan import LaunchPlan, plan_efficient_scan_2d, plan_selective_scan
from evm_deploy.errors import MissingToolError

__all__ = [
    "Call",
    "call_efficient_scan_2d",
    "call_selective_scan",
    "efficient_scan_2d",
    "enqueue",
    "selective_scan",
    "sm_count",
    "takes",
]

DTYPES = (torch.float32, torch.float16)


@dataclasses.dataclass(frozen=True)
class Call:
    """A launch and its arguments: the tensors of the inputs, the sizes, y."""

    plan: LaunchPlan
    tensors: tuple[Tensor, ...]
    sizes: tuple[int, ...]
    y: Tensor


def takes(*tensors: Tensor | None) -> bool:
    """Whether the kernels run on these inputs: float32 or float16 on one GPU for which a kernel can be compiled."""
    given = [t for t in tensors if t is not None]
    device = given[0].device
    if device.type != "cuda" or any(t.device != device or t.dtype not in DTYPES for t in given):
        return False
    return _compiles(device.index)


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> Tensor:
    """As `reference.selective_scan`, for float32 and float16 tensors on a GPU; the recurrence is float32.

    u, delta: (B, K, L, D); A: (K, N, D); B, C: (B, K, L, N); D, delta_bias: (K, D). Returns y: (B, K, L, D) in the
    dtype of u. Raises ValueError for other shapes, types or devices, MissingToolError where no kernel can be compiled.
    """
    _check_device(u)
    if not u.numel():
        return torch.empty_like(u)
    call = call_selective_scan(u, delta, A, B, C, D, delta_bias, delta_softplus, sm_count=_sm_count(u.device.index))
    _launch(call)
    return call.y.to(u.dtype)


def efficient_scan_2d(
    x: Tensor, x_proj: Tensor, dt_proj: Tensor, dt_bias: Tensor, A: Tensor, D: Tensor, step: int = 2
) -> Tensor:
    """As `reference.efficient_scan_2d`, for float32 and float16 tensors on a GPU; all sums are float32.

    x: (B, H, W, D); x_proj: (K, D, R+2N); dt_proj: (K, R, D); dt_bias, D: (K, D); A: (K, N, D); K = step * step.
    Returns y: (B, H, W, D) in the dtype of x. Raises as `selective_scan` does.
    """
    _check_device(x)
    if not x.numel():
        return torch.empty_like(x)
    call = call_efficient_scan_2d(x, x_proj, dt_proj, dt_bias, A, D, step, sm_count=_sm_count(x.device.index))
    _launch(call)
    return call.y.to(x.dtype)


def call_selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    *,
    sm_count: int,
) -> Call:
    """What `selective_scan` launches, on any device. Raises ValueError for shapes and types that do not fit."""
    if u.dim() != 4 or A.dim() != 3:
        raise ValueError(f"u has shape {tuple(u.shape)} and A {tuple(A.shape)}, expected (B, K, L, D) and (K, N, D)")
    batch, K, L, channels = u.shape
    N, dtype = A.shape[1], _wider(u, delta, B, C)
    tensors = (
        _ready("u", u, (batch, K, L, channels), dtype, u.device),
        _ready("delta", delta, (batch, K, L, channels), dtype, u.device),
        _ready("A", A, (K, N, channels), torch.float32, u.device),
        _ready("B", B, (batch, K, L, N), dtype, u.device),
        _ready("C", C, (batch, K, L, N), dtype, u.device),
        *([] if D is None else [_ready("D", D, (K, channels), torch.float32, u.device)]),
        *([] if delta_bias is None else [_ready("delta_bias", delta_bias, (K, channels), torch.float32, u.device)]),
    )
    plan = _selective_scan_plan(
        batch, K, L, channels, N, _name(dtype), sm_count, D is not None, delta_bias is not None, delta_softplus
    )
    return Call(plan, tensors, (K, L, channels), torch.empty_like(tensors[0]))


def call_efficient_scan_2d(
    x: Tensor, x_proj: Tensor, dt_proj: Tensor, dt_bias: Tensor, A: Tensor, D: Tensor, step: int, *, sm_count: int
) -> Call:
    """What `efficient_scan_2d` launches, on any device. Raises ValueError for shapes and types that do not fit."""
    if step < 1 or x.dim() != 4 or dt_proj.dim() != 3 or A.dim() != 3:
        raise ValueError(
            f"step is {step}, x has shape {tuple(x.shape)}, dt_proj {tuple(dt_proj.shape)} and A {tuple(A.shape)}; "
            "expected 1 or more, (B, H, W, D), (K, R, D) and (K, N, D)"
        )
    batch, H, W, channels = x.shape
    K, R, N, dtype = step * step, dt_proj.shape[1], A.shape[1], _wider(x, x_proj, dt_proj)
    tensors = (
        _ready("x", x, (batch, H, W, channels), dtype, x.device),
        _ready("x_proj", x_proj, (K, channels, R + 2 * N), dtype, x.device),
        _ready("dt_proj", dt_proj, (K, R, channels), dtype, x.device),
        _ready("dt_bias", dt_bias, (K, channels), torch.float32, x.device),
        _ready("A", A, (K, N, channels), torch.float32, x.device),
        _ready("D", D, (K, channels), torch.float32, x.device),
    )
    plan = _efficient_scan_2d_plan(batch, H, W, channels, K, N, R, step, _name(dtype), sm_count)
    return Call(plan, tensors, (H, W, channels), torch.empty_like(tensors[0]))


@cache
def _selective_scan_plan(
    B: int, K: int, L: int, D: int, N: int, dtype: str, sm_count: int, skip: bool, bias: bool, softplus: bool
) -> LaunchPlan:
    return plan_selective_scan(B, K, L, D, N, dtype, sm_count, skip=skip, bias=bias, softplus=softplus)


_efficient_scan_2d_plan = cache(plan_efficient_scan_2d)


def _wider(*tensors: Tensor) -> torch.dtype:
    for t in tensors:
        if t.dtype not in DTYPES:
            raise ValueError(f"an input is {t.dtype}, the CUDA kernels take float32 and float16")
    return torch.float32 if any(t.dtype == torch.float32 for t in tensors) else torch.float16


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _ready(name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    if tensor.shape != shape:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {shape}")
    if tensor.device != device:
        raise ValueError(f"{name} is on {tensor.device}, expected {device}")
    tensor = tensor.detach().to(dtype).contiguous()
    return tensor.clone() if tensor.data_ptr() % 16 else tensor  # a view may start anywhere; the kernel loads by fours


def _check_device(tensor: Tensor) -> None:
    if tensor.device.type != "cuda":
        raise ValueError(f"the input is on {tensor.device}, the CUDA kernels take tensors on a GPU")


def _launch(call: Call) -> None:
    with torch.cuda.device(call.y.device):
        stream = torch.cuda.current_stream().cuda_stream
        driver.enqueue(call.plan, [t.data_ptr() for t in call.tensors], call.sizes, call.y.data_ptr(), stream)


@cache
def _sm_count(index: int) -> int:
    count: int = torch.cuda.get_device_properties(index).multi_processor_count
    return count


@cache
def _compiles(index: int) -> bool:
    """Whether there are a compiler that knows the GPU, and a driver; a HIP build of PyTorch has neither."""
    try:
        with torch.cuda.device(index):
            gpu = driver.gpu()
            compile_kernel(plan_selective_scan(1, 1, 1, 1, 1, "float32", gpu.sm_count).defines, gpu.architecture)
    except MissingToolError:
        return False
    return True
