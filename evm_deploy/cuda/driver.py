"""A launch on the GPU of the calling thread, through the driver: all it takes is a driver and a compiler."""

from __future__ import annotations

import ctypes
import dataclasses
import sys
from collections.abc import Sequence
from functools import cache

from evm_deploy.cuda.compile import compile_kernel
from evm_deploy.cuda.plan import LaunchPlan
from evm_deploy.errors import MissingToolError

_SM_COUNT, _MAJOR, _MINOR = 16, 75, 76  # of CUdevice_attribute


@dataclasses.dataclass(frozen=True)
class Gpu:
    """architecture: such as "sm_87". sm_count: its multiprocessors."""

    architecture: str
    sm_count: int


def enqueue(plan: LaunchPlan, inputs: Sequence[int], sizes: Sequence[int], y: int, stream: int) -> None:
    """Launches the kernel on `stream` and does not wait for it.

    inputs, y: addresses on the GPU, in the order that `LaunchPlan` gives; sizes: its int32 arguments. Compiles and
    loads the kernel on its first use in a context, which must not fall into the capture of a graph. Raises
    MissingToolError where the driver or a compiler is missing, or the driver refuses.
    """
    launch(_function(_context(), plan.entry, plan.defines), plan, inputs, sizes, y, stream)


def launch(
    function: ctypes.c_void_p, plan: LaunchPlan, inputs: Sequence[int], sizes: Sequence[int], y: int, stream: int
) -> None:
    """As `enqueue`, of a kernel that is loaded already."""
    values = [*map(ctypes.c_void_p, inputs), *map(ctypes.c_int, sizes), ctypes.c_void_p(y)]
    addresses = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
    launched = _driver().cuLaunchKernel(
        function, *plan.grid, *plan.block, plan.shared_bytes, ctypes.c_void_p(stream), addresses, None
    )
    _check(launched, "launch a scan")


def gpu() -> Gpu:
    """The GPU of the calling thread. Raises MissingToolError where there is none."""
    return _gpu(_context())


def sm_count() -> int:
    """Multiprocessors of the GPU of the calling thread. Raises MissingToolError where there is none."""
    return gpu().sm_count


@cache
def _gpu(context: int) -> Gpu:
    device = ctypes.c_int()
    _check(_driver().cuCtxGetDevice(ctypes.byref(device)), "name its GPU")

    def attribute(which: int) -> int:
        value = ctypes.c_int()
        _check(_driver().cuDeviceGetAttribute(ctypes.byref(value), which, device), "describe its GPU")
        return value.value

    return Gpu(f"sm_{attribute(_MAJOR)}{attribute(_MINOR)}", attribute(_SM_COUNT))


def _context() -> int:
    """The context of the calling thread; a thread that has none gets the one that the libraries share, of GPU 0."""
    context = ctypes.c_void_p()
    _check(_driver().cuCtxGetCurrent(ctypes.byref(context)), "be used")
    if not context.value:
        device = ctypes.c_int()
        _check(_driver().cuDeviceGet(ctypes.byref(device), 0), "find a GPU")
        _check(_driver().cuDevicePrimaryCtxRetain(ctypes.byref(context), device), "open the GPU")
        _check(_driver().cuCtxSetCurrent(context), "open the GPU")
    return context.value or 0


@cache
def _function(context: int, entry: str, defines: tuple[str, ...]) -> ctypes.c_void_p:
    return load(compile_kernel(defines, _gpu(context).architecture), entry)


def load(image: bytes, entry: str) -> ctypes.c_void_p:
    """The kernel of a cubin, loaded into the context of the calling thread, where it stays."""
    module, function = ctypes.c_void_p(), ctypes.c_void_p()
    _check(_driver().cuModuleLoadData(ctypes.byref(module), image), "load a kernel")
    _check(_driver().cuModuleGetFunction(ctypes.byref(function), module, entry.encode()), f"find the kernel {entry}")
    return function


@cache
def _driver() -> ctypes.CDLL:
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
        _driver().cuGetErrorName(code, ctypes.byref(name))
        known = (name.value or b"unknown").decode()
        raise MissingToolError(
            f"The NVIDIA driver could not {action}: {known}.", "Check that it is as new as the CUDA of the compiler."
        )
