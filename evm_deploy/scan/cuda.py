"""The scans on PyTorch's CUDA tensors: one launch each, on the current stream, without waiting for it."""

from __future__ import annotations

import dataclasses
from functools import cache

import torch
from torch import Tensor

from evm_deploy.cuda import driver
from evm_deploy.cuda.compile import compile_kernel
from evm_deploy.cuda.plan import LaunchPlan, plan_selective_scan
from evm_deploy.errors import MissingToolError
from evm_deploy.scan.kernel_inputs import CudaInputs, list_tensors

DTYPES = (torch.float32, torch.float16)


@dataclasses.dataclass(frozen=True)
class Call:
    """A launch and its arguments: the tensors of the inputs, the sizes, y."""

    plan: LaunchPlan
    tensors: tuple[Tensor, ...]
    sizes: tuple[int, ...]
    y: Tensor


def takes(inputs: CudaInputs) -> bool:
    """Whether the kernels run on these inputs: float32 or float16 on one GPU for which a kernel can be compiled."""
    given = list(list_tensors(inputs).values())
    device = given[0].device
    if device.type != "cuda" or any(t.device != device or t.dtype not in DTYPES for t in given):
        return False
    return _compiles(device.index)


def run(inputs: CudaInputs) -> Tensor:
    """As `reference.run`, for float32 and float16 tensors on a GPU; all sums are float32.

    Returns y in the dtype of the first input. Raises ValueError for other shapes, types or devices, MissingToolError
    where no kernel can be compiled.
    """
    first = inputs[0]
    _check_device(first)
    if not first.numel():
        return torch.empty_like(first)
    call = prepare_call(inputs, sm_count=_sm_count(first.device.index))
    _launch(call)
    return call.y.to(first.dtype)


def prepare_call(inputs: CudaInputs, *, sm_count: int) -> Call:
    """What `run` launches, on any device. Raises ValueError for shapes and types that do not fit."""
    shapes, given = inputs.shapes(), list_tensors(inputs)
    dtype = _wider(*(tensor for name, tensor in given.items() if name not in inputs.states))
    tensors = tuple(
        _ready(name, tensor, shapes[name], torch.float32 if name in inputs.states else dtype, inputs[0].device)
        for name, tensor in given.items()
    )
    plan = inputs.plan(str(dtype).removeprefix("torch."), sm_count)
    return Call(plan, tensors, tuple(inputs[0].shape[1:]), torch.empty_like(tensors[0]))


def _wider(*tensors: Tensor) -> torch.dtype:
    for t in tensors:
        if t.dtype not in DTYPES:
            raise ValueError(f"an input is {t.dtype}, the CUDA kernels take float32 and float16")
    return torch.float32 if any(t.dtype == torch.float32 for t in tensors) else torch.float16


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
            gpu = driver.find_gpu()
            compile_kernel(plan_selective_scan(1, 1, 1, 1, 1, "float32", gpu.sm_count).defines, gpu.architecture)
    except MissingToolError:
        return False
    return True
