"""The compiled kernels: where the library is, and the two operators on it."""

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

LIBRARY_NAMES = ("libevm_ops.so", "libevm_ops.dylib", "evm_ops.dll")
LIBRARY_VARIABLE = "EVM_DEPLOY_NATIVE_LIBRARY"


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
    """Whether the library is there."""
    try:
        native_library()
    except MissingToolError:
        return False
    return True


def isa() -> str:
    """The instruction set in use: avx512vnni, avx512, avx2 or baseline on x86-64, neon on aarch64."""
    name: bytes = _load(native_library()).evm_isa()
    return name.decode()


def set_isa(name: str) -> None:
    """Use the kernels of this instruction set in the whole process. Raises ValueError where the processor lacks it."""
    if _load(native_library()).evm_set_isa(name.encode()) != 0:
        raise ValueError(f"this processor, or this build, has no {name!r} kernels")


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
    """As `reference.selective_scan`, for float32 tensors on the CPU.

    u, delta: (B, K, L, D); A: (K, N, D); B, C: (B, K, L, N); D, delta_bias: (K, D). Returns y: (B, K, L, D).
    Raises ValueError for other shapes, types or devices.
    """
    if u.dim() != 4 or A.dim() != 3:
        raise ValueError(f"u has shape {tuple(u.shape)} and A {tuple(A.shape)}, expected (B, K, L, D) and (K, N, D)")
    batch, K, L, channels = u.shape
    N = A.shape[1]
    given = [
        _checked("u", u, (batch, K, L, channels)),
        _checked("delta", delta, (batch, K, L, channels)),
        _checked("A", A, (K, N, channels)),
        _checked("B", B, (batch, K, L, N)),
        _checked("C", C, (batch, K, L, N)),
        None if D is None else _checked("D", D, (K, channels)),
        None if delta_bias is None else _checked("delta_bias", delta_bias, (K, channels)),
    ]
    y = _like(u)
    arguments = _SelectiveScan(batch, K, L, channels, N, delta_softplus, _threads(), *_pointers([*given, y]))
    _raise_for(_load(native_library()).evm_selective_scan_f32(ctypes.byref(arguments)))
    return y


def efficient_scan_2d(
    x: Tensor, x_proj: Tensor, dt_proj: Tensor, dt_bias: Tensor, A: Tensor, D: Tensor, step: int = 2
) -> Tensor:
    """As `reference.efficient_scan_2d`, for float32 tensors on the CPU.

    x: (B, H, W, D); x_proj: (K, D, R+2N); dt_proj: (K, R, D); dt_bias, D: (K, D); A: (K, N, D); K = step * step.
    Returns y: (B, H, W, D). Raises ValueError for other shapes, types or devices.
    """
    if step < 1 or x.dim() != 4 or dt_proj.dim() != 3 or A.dim() != 3:
        raise ValueError(
            f"step is {step}, x has shape {tuple(x.shape)}, dt_proj {tuple(dt_proj.shape)} and A {tuple(A.shape)}; "
            "expected 1 or more, (B, H, W, D), (K, R, D) and (K, N, D)"
        )
    batch, H, W, channels = x.shape
    K, R, N = step * step, dt_proj.shape[1], A.shape[1]
    given = [
        _checked("x", x, (batch, H, W, channels)),
        _checked("x_proj", x_proj, (K, channels, R + 2 * N)),
        _checked("dt_proj", dt_proj, (K, R, channels)),
        _checked("dt_bias", dt_bias, (K, channels)),
        _checked("A", A, (K, N, channels)),
        _checked("D", D, (K, channels)),
    ]
    y = _like(x)
    arguments = _EfficientScan2D(batch, H, W, channels, N, R, step, _threads(), *_pointers([*given, y]))
    _raise_for(_load(native_library()).evm_efficient_scan_2d_f32(ctypes.byref(arguments)))
    return y


class _SelectiveScan(ctypes.Structure):
    """`evm_selective_scan_args` of native/c_api.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in "batch groups length channels states delta_softplus threads".split()),
        *((name, ctypes.c_void_p) for name in "u delta A B C D delta_bias y".split()),
    )


class _EfficientScan2D(ctypes.Structure):
    """`evm_efficient_scan_2d_args` of native/c_api.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in "batch height width channels states rank step threads".split()),
        *((name, ctypes.c_void_p) for name in "x x_proj dt_proj dt_bias A D y".split()),
    )


@cache
def _load(path: Path) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise MissingToolError(
            f"The native library {path} does not load: {error}.", "Reinstall evm-deploy on this machine."
        ) from error
    library.evm_isa.restype = ctypes.c_char_p
    return library


def _checked(name: str, tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    import torch

    if tensor.shape != shape:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {shape}")
    if tensor.dtype != torch.float32 or tensor.device.type != "cpu":
        raise ValueError(f"{name} is {tensor.dtype} on {tensor.device}, the native kernel takes float32 on the CPU")
    return tensor.detach().contiguous()


def _like(tensor: Tensor) -> Tensor:
    import torch

    return torch.empty(tensor.shape, dtype=torch.float32)


def _pointers(tensors: list[Tensor | None]) -> list[int | None]:
    # An empty tensor has no address; the kernel reads nothing from it, and takes null for "left out".
    return [None if t is None else t.data_ptr() or 1 for t in tensors]


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _raise_for(code: int) -> None:
    if code == 2:
        raise MemoryError("the native scan has no memory left")
    if code != 0:
        raise ValueError("the native scan refused its arguments")
