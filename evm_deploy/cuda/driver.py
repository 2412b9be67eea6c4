"""Launches kernels on the GPU of the calling thread. This needs only the NVIDIA driver and a compiler."""

from __future__ import annotations

import ctypes
import dataclasses
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from evm_deploy.cuda.compile import compile_kernel
from evm_deploy.cuda.plan import LaunchPlan
from evm_deploy.errors import MissingToolError

_SM_COUNT, _MAJOR, _MINOR = 16, 75, 76  # values of CUdevice_attribute


@dataclasses.dataclass(frozen=True)
class Gpu:
    """A GPU. architecture: for example "sm_87". sm_count: number of multiprocessors."""

    architecture: str
    sm_count: int


def enqueue(plan: LaunchPlan, inputs: Sequence[int], sizes: Sequence[int], y: int, stream: int) -> None:
    """Launches the kernel on `stream` and does not wait for it.

    inputs, y: addresses on the GPU, in the order of `LaunchPlan`; sizes: the int32 arguments. The first use in a
    context compiles and loads the kernel, which must not happen during the capture of a graph. Raises
    MissingToolError: the driver or a compiler is missing, or the driver refuses.
    """
    launch(_load_function(_get_context(), plan.entry, plan.defines, plan.source), plan, inputs, sizes, y, stream)


def launch(
    function: ctypes.c_void_p, plan: LaunchPlan, inputs: Sequence[int], sizes: Sequence[int], y: int, stream: int
) -> None:
    """Launches a loaded kernel, as `enqueue` does."""
    values = [*map(ctypes.c_void_p, inputs), *map(ctypes.c_int, sizes), ctypes.c_void_p(y)]
    addresses = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
    launched = _open_driver().cuLaunchKernel(
        function, *plan.grid, *plan.block, plan.shared_bytes, ctypes.c_void_p(stream), addresses, None
    )
    _check(launched, "launch a scan")


def find_gpu() -> Gpu:
    """Finds the GPU of the calling thread. Raises MissingToolError: there is none."""
    return _describe_gpu(_get_context())


def count_multiprocessors() -> int:
    """The number of multiprocessors of the calling thread's GPU. Raises MissingToolError: there is no GPU."""
    return find_gpu().sm_count


@cache
def _describe_gpu(context: int) -> Gpu:
    device = ctypes.c_int()
    _check(_open_driver().cuCtxGetDevice(ctypes.byref(device)), "name its GPU")

    def attribute(which: int) -> int:
        value = ctypes.c_int()
        _check(_open_driver().cuDeviceGetAttribute(ctypes.byref(value), which, device), "describe its GPU")
        return value.value

    return Gpu(f"sm_{attribute(_MAJOR)}{attribute(_MINOR)}", attribute(_SM_COUNT))


def _get_context() -> int:
    """The CUDA context of the calling thread. A thread without one gets the shared primary context of GPU 0."""
    context = ctypes.c_void_p()
    _check(_open_driver().cuCtxGetCurrent(ctypes.byref(context)), "be used")
    if not context.value:
        device = ctypes.c_int()
        _check(_open_driver().cuDeviceGet(ctypes.byref(device), 0), "find a GPU")
        _check(_open_driver().cuDevicePrimaryCtxRetain(ctypes.byref(context), device), "open the GPU")
        _check(_open_driver().cuCtxSetCurrent(context), "open the GPU")
    return context.value or 0


@cache
def _load_function(context: int, entry: str, defines: tuple[str, ...], source: Path) -> ctypes.c_void_p:
    return load_kernel(compile_kernel(defines, _describe_gpu(context).architecture, source=source), entry)


def load_kernel(image: bytes, entry: str) -> ctypes.c_void_p:
    """Loads the kernel of a cubin into the context of the calling thread, where it stays."""
    module, function = ctypes.c_void_p(), ctypes.c_void_p()
    _check(_open_driver().cuModuleLoadData(ctypes.byref(module), image), "load a kernel")
    _check(
        _open_driver().cuModuleGetFunction(ctypes.byref(function), module, entry.encode()), f"find the kernel {entry}"
    )
    return function


@cache
def _open_driver() -> ctypes.CDLL:
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        library = ctypes.CDLL(name)
    except OSError as error:
        raise MissingToolError(f"There is no NVIDIA driver: {error}.", "Install the driver of the GPU.") from error
    code = library.cuInit(0)
    if code:
        raise MissingToolError(f"The NVIDIA driver has no GPU to use (code {code}).", "Check nvidia-smi.")
    return library


def _check(code: int, action: str) -> None:
    if code:
        name = ctypes.c_char_p()
        _open_driver().cuGetErrorName(code, ctypes.byref(name))
        known = (name.value or b"unknown").decode()
        raise MissingToolError(
            f"The NVIDIA driver could not {action}: {known}.",
            "Check that it is not older than the CUDA version of the compiler.",
        )
