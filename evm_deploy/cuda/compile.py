"""Compiles the kernel sources with NVRTC or, if that is not installed, with nvcc. Neither needs a GPU.

NVRTC is called through its C interface: its wheel comes with every PyTorch for CUDA, and nothing else is needed.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

from evm_deploy.errors import MissingToolError, OptionError, check_choice

SOURCE = Path(__file__).parent / "scan.cu"
HEADER = SOURCE.with_name("element.cuh")  # which sources may include
FORMATS = ("cubin", "ptx")
INSTALL = "pip install nvidia-cuda-nvrtc"
_FLAGS = ("-std=c++17", "-diag-suppress=177")  # 177: functions that one of the kernels does not use


def compile_kernel(defines: Sequence[str], architecture: str, *, format: str = "cubin", source: Path = SOURCE) -> bytes:
    """Compiles the kernel for these `LaunchPlan.defines` to machine code ("cubin") or "ptx" text.

    architecture: for example "sm_87". source: another file of kernels. Takes some tenths of a second, once in a
    process. Raises MissingToolError: there is no compiler, or it is too old or too new for the architecture;
    OptionError: not an architecture, or another format.
    """
    check_choice("format", format, FORMATS)
    if not re.fullmatch(r"sm_\d{2,3}[af]?", architecture):
        raise OptionError(f"{architecture!r} is not an architecture.", 'Use a name such as "sm_87".')
    return _compile(source, tuple(defines), architecture, format)


def has_compiler() -> bool:
    """Whether there is a compiler."""
    return _load_nvrtc() is not None or shutil.which("nvcc") is not None


@cache
def _compile(source: Path, defines: tuple[str, ...], architecture: str, format: str) -> bytes:
    target = architecture if format == "cubin" else architecture.replace("sm_", "compute_")
    flags = [f"-arch={target}", *_FLAGS, *[f"-D{define}" for define in defines]]
    library = _load_nvrtc()
    if library is not None:
        return _compile_with_nvrtc(library, source, flags, architecture, format)
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        raise MissingToolError("The CUDA kernels need a compiler, and neither NVRTC nor nvcc is installed.", INSTALL)
    return _compile_with_nvcc(nvcc, source, flags, architecture, format)


def _compile_with_nvrtc(library: ctypes.CDLL, source: Path, flags: list[str], architecture: str, format: str) -> bytes:
    program = ctypes.c_void_p()
    text, names = (ctypes.c_char_p * 1)(HEADER.read_bytes()), (ctypes.c_char_p * 1)(HEADER.name.encode())
    code, name = source.read_bytes(), source.name.encode()
    _check(library.nvrtcCreateProgram(ctypes.byref(program), code, name, 1, text, names))
    try:
        options = [flag.encode() for flag in flags]
        if library.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options)):
            log = _read(library.nvrtcGetProgramLogSize, library.nvrtcGetProgramLog, program)
            raise _make_error("NVRTC", log.rstrip(b"\0").decode(errors="replace"), architecture)
        if format == "ptx":
            return _read(library.nvrtcGetPTXSize, library.nvrtcGetPTX, program).rstrip(b"\0")
        return _read(library.nvrtcGetCUBINSize, library.nvrtcGetCUBIN, program)
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _read(size_of: Callable[..., int], read: Callable[..., int], program: ctypes.c_void_p) -> bytes:
    size = ctypes.c_size_t()
    _check(size_of(program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    _check(read(program, buffer))
    return buffer.raw


def _check(code: int) -> None:
    if code:
        raise MissingToolError(f"NVRTC failed with code {code}.", f"Reinstall it: {INSTALL}")


def _compile_with_nvcc(nvcc: str, source: Path, flags: list[str], architecture: str, format: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "kernel"
        command = [nvcc, f"-{format}", *flags, "-o", str(out), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise _make_error("nvcc", done.stderr + done.stdout, architecture)
        return out.read_bytes()


def _make_error(compiler: str, log: str, architecture: str) -> MissingToolError:
    line = next((line for line in log.splitlines() if "error" in line or "fatal" in line), log.strip()[:200])
    return MissingToolError(
        f"{compiler} does not compile the kernels for {architecture}: {line}",
        f"Install one that knows this architecture, such as the newest: {INSTALL}",
    )


@cache
def _load_nvrtc() -> ctypes.CDLL | None:
    for name in _list_nvrtc_files():
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def _list_nvrtc_files() -> Iterator[str]:
    """The possible file names of NVRTC, the newest installed wheel first."""
    spec = importlib.util.find_spec("nvidia")  # the folder that the wheels share; no code in it is run
    for folder in (spec.submodule_search_locations or []) if spec else []:
        found = [*Path(folder).glob("*/lib/libnvrtc.so.[0-9]*"), *Path(folder).glob("*/bin/**/nvrtc64_*_0.dll")]
        yield from map(str, sorted(found, key=lambda path: path.name, reverse=True))
    named = ctypes.util.find_library("nvrtc")
    yield from ([named] if named else []) + ["libnvrtc.so", "/usr/local/cuda/lib64/libnvrtc.so"]
