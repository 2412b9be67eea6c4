"""The kernels of our operators for the page: native/wasm_module.cpp and what it calls, as one WebAssembly module."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path

from evm_deploy import compiling
from evm_deploy.compiling import native_sources, run_zig
from evm_deploy.errors import MissingToolError
from evm_deploy.files import read_file

MODULE = "evm_ops.wasm"
LARGEST = 1 << 20  # bytes; it has 60 thousand
_UNITS = ("conv", "dispatch", "isa_baseline", "norm", "run", "wasm_module")
_FLAGS = ("-std=c++17", "-O3", "-ffp-contract=fast", "-msimd128", "-fvisibility=hidden")
_NO_LIBRARY = ("-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics")


Say = Callable[[str], None]


def find_module(say: Say) -> bytes | None:
    """The module; None where ziglang, which compiles it, is not installed. Raises MissingToolError: ziglang fails."""
    if compiling.find_zig_version() is None:
        return None
    say("compiling the kernels for the page")
    return build_module()


@functools.cache
def build_module() -> bytes:
    """Compiles the module, once a process. The same sources give the same bytes.

    Raises MissingToolError: ziglang or the sources are missing, or ziglang fails.
    """
    sources = native_sources()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        objects = [str(folder / f"{unit}.o") for unit in _UNITS]
        for unit, out in zip(_UNITS, objects, strict=True):
            options = ["c++", "-target", "wasm32-wasi", *_FLAGS, *_NO_LIBRARY]
            run_zig("WebAssembly", [*options, "-c", str(sources / f"{unit}.cpp"), "-o", out])
        run_zig("WebAssembly", ["wasm-ld", "--no-entry", "-s", *objects, "-o", str(folder / MODULE)])
        return read_file(folder / MODULE, LARGEST, lambda cause: MissingToolError(cause, "install a newer ziglang."))
