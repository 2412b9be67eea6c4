"""What PyTorch's side of a launch passes on, without a GPU: the emulator stands in for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from evm_deploy.cuda import driver
from evm_deploy.errors import MissingToolError
from evm_deploy.scan import cuda, reference
from evm_deploy.scan.inputs import Scan2DInputs, ScanInputs
from evm_deploy.scan.kernel_inputs import CausalConvInputs, OrderedScanInputs
from evm_deploy.tolerances import FP16_IO_RELATIVE, KERNEL_RELATIVE

Make = Callable[..., list[Tensor]]
Error = Callable[[Tensor, Tensor], float]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, emulate: Any) -> list[cuda.Call]:
    """Tensors on the CPU pass for tensors on a GPU; the calls that were launched."""
    calls = []

    def run(call: cuda.Call) -> None:
        calls.append(call)
        emulate(call.plan, call.tensors, call.sizes, call.y)

    monkeypatch.setattr(cuda, "_launch", run)
    monkeypatch.setattr(cuda, "_check_device", lambda tensor: None)
    monkeypatch.setattr(cuda, "_sm_count", lambda index: 16)
    return calls


@pytest.mark.parametrize("given", [(5, 6), (5,), (6,), ()])
def test_selective_scan_with_and_without_its_optional_inputs(
    gpu: list[cuda.Call], scan_inputs: Make, relative_error: Error, given: tuple[int, ...]
) -> None:
    inputs = scan_inputs(2, 3, 20, 12, 4)
    arguments = [t if i < 5 or i in given else None for i, t in enumerate(inputs)]
    expected = reference.run(ScanInputs(*[t if t is None else t.double() for t in arguments], True))
    assert relative_error(cuda.run(ScanInputs(*arguments, True)), expected) < KERNEL_RELATIVE
    assert len(gpu) == 1


def test_efficient_scan_2d(gpu: list[cuda.Call], scan_2d_inputs: Make, relative_error: Error) -> None:
    inputs = scan_2d_inputs(2, 7, 9, 12, 4, 3, 2)
    y = cuda.run(Scan2DInputs(*inputs, 2))
    assert relative_error(y, reference.run(Scan2DInputs(*[t.double() for t in inputs]))) < KERNEL_RELATIVE


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_ordered_scan_adds_up_in_float32(
    gpu: list[cuda.Call], grouped_scan_inputs: Make, relative_error: Error, dtype: torch.dtype
) -> None:
    inputs = grouped_scan_inputs(2, 9, 3, 12, 12, 4, 3, dtype)
    back = torch.randperm(36)[:30].view(2, 15)
    y = cuda.run(OrderedScanInputs(*inputs, back))
    assert (y.dtype, y.shape) == (dtype, (2, 15, 12))
    assert [t.dtype for t in gpu[0].tensors] == [dtype] * 3 + [torch.float32] * 3 + [torch.int64]
    assert gpu[0].y.dtype == torch.float32
    expected = reference.run(OrderedScanInputs(*[t.double() for t in inputs[:6]], inputs[6], back))
    assert relative_error(y, expected) < (KERNEL_RELATIVE if dtype == torch.float32 else FP16_IO_RELATIVE)


def test_causal_conv(gpu: list[cuda.Call], causal_conv_inputs: Make, relative_error: Error) -> None:
    inputs = causal_conv_inputs(2, 9, 3, 12, 12, 4)
    expected = reference.run(CausalConvInputs(*[t.double() for t in inputs[:3]], inputs[3]))
    assert relative_error(cuda.run(CausalConvInputs(*inputs)), expected) < KERNEL_RELATIVE
    with pytest.raises(ValueError, match=r"order is torch\.int32"):
        cuda.run(CausalConvInputs(*inputs[:3], inputs[3].int()))


def test_half_stays_half_and_its_states_become_float(
    gpu: list[cuda.Call], scan_inputs: Make, relative_error: Error
) -> None:
    inputs = [t.half() for t in scan_inputs(1, 2, 20, 12, 4)]
    y = cuda.run(ScanInputs(*inputs, True))
    assert y.dtype == torch.float16
    assert [t.dtype for t in gpu[0].tensors] == [torch.float16] * 2 + [torch.float32] + [torch.float16] * 2 + [
        torch.float32
    ] * 2
    assert relative_error(y, reference.run(ScanInputs(*[t.double() for t in inputs], True))) < FP16_IO_RELATIVE


def test_a_wider_input_is_not_rounded(gpu: list[cuda.Call], scan_inputs: Make, relative_error: Error) -> None:
    u, *others = scan_inputs(1, 2, 20, 12, 4)
    u = u.half()
    y = cuda.run(ScanInputs(u, *others, True))
    assert y.dtype == torch.float16
    assert all(t.dtype == torch.float32 for t in gpu[0].tensors)


def test_other_memory_layouts_are_copied(gpu: list[cuda.Call], scan_inputs: Make, relative_error: Error) -> None:
    inputs = scan_inputs(1, 2, 20, 12, 4)
    expected = cuda.run(ScanInputs(*inputs, True))
    shifted = torch.cat([torch.zeros(1), inputs[1].flatten()])[1:].view_as(inputs[1])  # not aligned to 16 bytes
    swapped = inputs[0].transpose(2, 3).contiguous().transpose(2, 3)
    assert torch.equal(cuda.run(ScanInputs(swapped, shifted, *inputs[2:], True)), expected)
    assert all(t.data_ptr() % 16 == 0 and t.is_contiguous() for t in gpu[1].tensors)


def test_nothing_in_nothing_out(gpu: list[cuda.Call], scan_2d_inputs: Make) -> None:
    inputs = scan_2d_inputs(1, 4, 4, 12, 4, 3, 2)
    assert cuda.run(Scan2DInputs(inputs[0][:0], *inputs[1:])).shape == (0, 4, 4, 12)
    assert not gpu


@pytest.mark.parametrize("place", range(1, 7))
def test_a_wrong_shape_is_refused(gpu: list[cuda.Call], scan_inputs: Make, place: int) -> None:
    inputs = scan_inputs(1, 2, 6, 5, 4)
    inputs[place] = inputs[place][..., :-1]
    with pytest.raises(ValueError, match=r"has shape .* expected"):
        cuda.run(ScanInputs(*inputs))


@pytest.mark.parametrize("place", range(6))
def test_a_wrong_shape_is_refused_2d(gpu: list[cuda.Call], scan_2d_inputs: Make, place: int) -> None:
    inputs = scan_2d_inputs(1, 4, 6, 5, 4, 2, 2)
    inputs[place] = inputs[place][..., :-1]
    with pytest.raises(ValueError, match=r"has shape .* expected"):
        cuda.run(Scan2DInputs(*inputs))


def test_other_types_and_devices_are_refused(gpu: list[cuda.Call], scan_inputs: Make) -> None:
    inputs = scan_inputs(1, 2, 6, 5, 4)
    with pytest.raises(ValueError, match="bfloat16"):
        cuda.run(ScanInputs(inputs[0].bfloat16(), *inputs[1:]))
    with pytest.raises(ValueError, match="delta is on meta"):
        cuda.run(ScanInputs(inputs[0], inputs[1].to("meta"), *inputs[2:]))


def test_the_kernels_do_not_take_tensors_on_a_cpu(scan_inputs: Make) -> None:
    inputs = scan_inputs(1, 2, 6, 5, 4)
    assert not cuda.takes(ScanInputs(*inputs))
    with pytest.raises(ValueError, match="on cpu, the CUDA kernels take tensors on a GPU"):
        cuda.run(ScanInputs(*inputs))


def test_a_machine_without_a_driver_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise OSError("cannot open shared object file")

    monkeypatch.setattr(driver.ctypes, "CDLL", absent)
    driver._open_driver.cache_clear()
    with pytest.raises(MissingToolError, match="no NVIDIA driver"):
        driver.count_multiprocessors()
