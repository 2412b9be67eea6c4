"""The sources of the native kernels, and the package ziglang, which compiles them for other processors."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from evm_deploy.errors import MissingToolError
from evm_deploy.files import package_folders

_PATIENCE = 1800  # seconds


def native_sources() -> Path:
    """Finds the folder with the sources and their CMakeLists.txt. Raises MissingToolError: they are not installed."""
    for folder in package_folders():
        for place in (folder / "native_src", folder.parent / "native"):
            if (place / "ort_library.cpp").is_file():
                return place
    fix = "install evm-deploy from its sources (run `pip install .` in their folder)."
    raise MissingToolError("this installation of evm-deploy has no sources of the operator library.", fix)


def find_zig_version() -> str | None:
    """The version of ziglang; None: it is not installed."""
    if importlib.util.find_spec("ziglang") is None:
        return None
    return importlib.metadata.version("ziglang")


def run_zig(machine: str, arguments: Sequence[str]) -> None:
    """Compiles for `machine`. Raises MissingToolError: ziglang is missing, or it fails."""
    if find_zig_version() is None:
        raise MissingToolError("ziglang, which compiles for other processors, is not installed.", "pip install ziglang")
    command = [sys.executable, "-m", "ziglang", *arguments]
    try:
        run = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        raise MissingToolError(f"ziglang did not compile for {machine} within half an hour.", "try again.") from None
    if run.returncode != 0:
        last = (run.stderr.strip().splitlines() or ["no message"])[-1][:300]
        raise MissingToolError(f"ziglang cannot compile for {machine} ({last}).", "install a newer ziglang.")
