"""The compiled kernels: where the library is, and the scans on it."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from evm_deploy.errors import MissingToolError
from evm_deploy.files import package_folders

if TYPE_CHECKING:
    from torch import Tensor

    from evm_deploy.scan.kernel_inputs import KernelInputs

LIBRARY_NAMES = ("libevm_ops.so", "libevm_ops.dylib", "evm_ops.dll")
LIBRARY_VARIABLE = "EVM_DEPLOY_NATIVE_LIBRARY"
INTERFACE = "evm_ops interface 3"  # what `evm_interface` of native/c_api.h returns


def native_library() -> Path:
    """Path of the operator library, for `onnxruntime.SessionOptions.register_custom_ops_library`.

    The environment variable EVM_DEPLOY_NATIVE_LIBRARY, where set, names another build of it. Raises MissingToolError
    where there is none.
    """
    named = os.environ.get(LIBRARY_VARIABLE)
    if named:
        if not Path(named).is_file():
            raise MissingToolError(
                f"{LIBRARY_VARIABLE} names {named}, which is not a file.", f"Correct or unset {LIBRARY_VARIABLE}."
            )
        return Path(named)
    for folder in package_folders():
        for name in LIBRARY_NAMES:
            path = folder / "native_lib" / name
            if path.is_file():
                return path
    raise MissingToolError(
        "This installation of evm-deploy was made without a C++ compiler and has no native kernels.",
        "Install g++ or clang, then, in the folder of evm-deploy: pip install --force-reinstall --no-deps .",
    )


def available() -> bool:
    """Whether the library is there. One that EVM_DEPLOY_NATIVE_LIBRARY names counts: that it is not usable is an error
    where it is loaded, and no reason to run without it.
    """
    if os.environ.get(LIBRARY_VARIABLE):
        return True
    try:
        native_library()
    except MissingToolError:
        return False
    return True


def find_usable_library() -> Path:
    """As `native_library`, of a library that this machine can load. Raises MissingToolError where it cannot."""
    path = native_library()
    _load(path)
    return path


def isa() -> str:
    """The instruction set in use: avx512vnni, avx512, avx2 or baseline on x86-64, neon on aarch64."""
    name: bytes = _load(native_library()).evm_isa()
    return name.decode()


def set_isa(name: str) -> None:
    """Use the kernels of this instruction set in the whole process. Raises ValueError where the processor lacks it."""
    if _load(native_library()).evm_set_isa(name.encode()) != 0:
        raise ValueError(f"this processor, or this build, has no {name!r} kernels")


def run(inputs: KernelInputs) -> Tensor:
    """As `reference.run`, for float32 tensors on the CPU. Raises ValueError for other shapes, types or devices."""
    from evm_deploy.scan.kernel_inputs import list_tensors

    shapes = inputs.shapes()
    given = {name: _check_tensor(name, tensor, shapes[name]) for name, tensor in list_tensors(inputs).items()}
    y = _make_floats(inputs.result_shape)
    numbers = inputs.sizes() | {"threads": _threads()}
    pointers = dict.fromkeys(shapes) | {name: _address(tensor) for name, tensor in (given | {"y": y}).items()}
    arguments = _structure(tuple(numbers), tuple(pointers))(*numbers.values(), *pointers.values())
    _raise_for(getattr(_load(native_library()), f"{inputs.kernel}_f32")(ctypes.byref(arguments)))
    return y


@cache
def _structure(numbers: tuple[str, ...], pointers: tuple[str, ...]) -> type[ctypes.Structure]:
    """The arguments of a kernel in native/c_api.h: its sizes, then its tensors."""
    fields = [*((name, ctypes.c_int64) for name in numbers), *((name, ctypes.c_void_p) for name in pointers)]
    return type("Arguments", (ctypes.Structure,), {"_fields_": fields})


@cache
def _load(path: Path) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise MissingToolError(f"The native library {path} does not load: {error}.", _fix()) from error
    if not hasattr(library, "evm_interface"):
        raise make_interface_error(path)
    library.evm_interface.restype = library.evm_isa.restype = ctypes.c_char_p
    if library.evm_interface() != INTERFACE.encode():
        raise make_interface_error(path)
    return library


def make_interface_error(path: Path) -> MissingToolError:
    """The error for a library of another version, or for another library."""
    return MissingToolError(f"{path} is not the operator library of this version ({INTERFACE}).", _fix())


def _fix() -> str:
    named = os.environ.get(LIBRARY_VARIABLE)
    return f"Correct or unset {LIBRARY_VARIABLE}." if named else "Reinstall evm-deploy on this machine."


def _check_tensor(name: str, tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    import torch

    from evm_deploy.scan.kernel_inputs import INDICES

    if tensor.shape != shape:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {shape}")
    dtype = torch.int64 if name in INDICES else torch.float32
    if tensor.dtype != dtype or tensor.device.type != "cpu":
        taken = str(dtype).removeprefix("torch.")
        raise ValueError(f"{name} is {tensor.dtype} on {tensor.device}, the native kernel takes {taken} on the CPU")
    return tensor.detach().contiguous()


def _make_floats(shape: tuple[int, ...]) -> Tensor:
    import torch

    return torch.empty(shape, dtype=torch.float32)


def _address(tensor: Tensor) -> int:
    # An empty tensor has no address; the kernel reads nothing from it, and takes null for "left out".
    return tensor.data_ptr() or 1


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _raise_for(code: int) -> None:
    if code == 2:
        raise MemoryError("the native scan has no memory left")
    if code != 0:
        raise ValueError("the native scan refused its arguments")
