"""The kernels on PyTorch's CUDA tensors: one launch each, on the current stream, without waiting for it."""

from __future__ import annotations

import dataclasses
import math
from functools import cache

import torch
from torch import Tensor

from evm_deploy.cuda import driver
from evm_deploy.cuda.compile import compile_kernel
from evm_deploy.cuda.plan import LaunchPlan, plan_selective_scan
from evm_deploy.errors import MissingToolError
from evm_deploy.scan.kernel_inputs import (
    INDICES,
    CudaInputs,
    GroupedScanInputs,
    KernelInputs,
    OrderedScanInputs,
    list_tensors,
)

DTYPES = (torch.float32, torch.float16)


@dataclasses.dataclass(frozen=True)
class Call:
    """A launch and its arguments: the tensors of the inputs, the sizes, y."""

    plan: LaunchPlan
    tensors: tuple[Tensor, ...]
    sizes: tuple[int, ...]
    y: Tensor


def takes(inputs: KernelInputs) -> bool:
    """Whether the kernels run on these inputs: float32 or float16 (indices int64) on one GPU for which a kernel can be
    compiled.
    """
    device, given = inputs[0].device, list_tensors(inputs)
    if device.type != "cuda" or any(t.device != device for t in given.values()):
        return False
    if any(t.dtype not in ((torch.int64,) if name in INDICES else DTYPES) for name, t in given.items()):
        return False
    return _compiles(device.index)


def run(inputs: KernelInputs) -> Tensor:
    """As `reference.run`, for float32 and float16 tensors on a GPU; all sums are float32.

    Returns y in the dtype of the first input. Raises ValueError for other shapes, types or devices, MissingToolError
    where no kernel can be compiled.
    """
    if isinstance(inputs, OrderedScanInputs):
        inputs.shapes()
        y = inputs.add_up(_run(inputs.groups))  # gathered: an order of sums that does not change from run to run
    else:
        y = _run(inputs)
    return y.to(inputs[0].dtype)


def _run(inputs: CudaInputs) -> Tensor:
    first = inputs[0]
    _check_device(first)
    if not math.prod(inputs.result_shape):
        return first.new_empty(inputs.result_shape)
    call = prepare_call(inputs, sm_count=_sm_count(first.device.index))
    _launch(call)
    return call.y


def prepare_call(inputs: CudaInputs, *, sm_count: int) -> Call:
    """What `run` launches, on any device. Raises ValueError for shapes and types that do not fit."""
    shapes, given = inputs.shapes(), list_tensors(inputs)
    dtype = _wider(*(tensor for name, tensor in given.items() if name not in (*inputs.states, *INDICES)))
    types = dict.fromkeys(inputs.states, torch.float32) | dict.fromkeys(INDICES, torch.int64)
    tensors = tuple(
        _ready(name, tensor, shapes[name], types.get(name, dtype), inputs[0].device) for name, tensor in given.items()
    )
    plan = inputs.plan(str(dtype).removeprefix("torch."), sm_count)
    result = torch.float32 if isinstance(inputs, GroupedScanInputs) else dtype
    return Call(plan, tensors, inputs.launch_sizes(), tensors[0].new_empty(inputs.result_shape, dtype=result))


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
    if dtype == torch.int64 and tensor.dtype != dtype:
        raise ValueError(f"{name} is {tensor.dtype}, the CUDA kernels take int64")
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
