"""Two names of one file system exchange what they stand for, in one step, where the system has such a call."""

import ctypes
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_AT_FDCWD = -100  # paths are relative to the current folder
_RENAME_EXCHANGE = 1 << 1  # Linux, renameat2(2)
_RENAME_SWAP = 2  # macOS, renamex_np(2)


def exchange(first: Path, second: Path) -> bool:
    """Exchanges two files or folders. False: this system or this file system cannot, and nothing has changed."""
    call = _find_call()
    return call is not None and call(os.fsencode(first), os.fsencode(second)) == 0


@functools.cache
def _find_call() -> Callable[[bytes, bytes], int] | None:
    if sys.platform == "win32":
        return None
    library: Any = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "linux" and hasattr(library, "renameat2"):  # glibc from 2.28 on
        return lambda first, second: int(
            library.renameat2(_AT_FDCWD, first, _AT_FDCWD, second, ctypes.c_uint(_RENAME_EXCHANGE))
        )
    if sys.platform == "darwin" and hasattr(library, "renamex_np"):
        return lambda first, second: int(library.renamex_np(first, second, ctypes.c_uint(_RENAME_SWAP)))
    return None
