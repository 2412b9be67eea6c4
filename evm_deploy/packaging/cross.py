"""Compiles the operator library for Linux on other processors than this machine's, with the package ziglang.

The same sources give the same bytes. The first time takes minutes, because ziglang builds its C++ library too.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import subprocess
import sys
from pathlib import Path

from evm_deploy.errors import MissingToolError
from evm_deploy.packaging.sources import native_sources

GLIBC = "2.28"  # from 2018; Debian 10, Ubuntu 20.04 and JetPack 5 have this version or a newer one
_TOOL = "check.cpp"  # a program of its own; all other sources are the library
_FLAGS = ("-std=c++17", "-O3", "-ffp-contract=fast", "-fPIC", "-shared", "-s", "-fvisibility=hidden")
_LINK = ("-fvisibility-inlines-hidden", "-Wl,--build-id=none", "-Wl,-z,nodelete")
MACHINES = ("aarch64",)  # not x86-64: each of its files needs other flags; the installation builds it there
_PATIENCE = 1800  # seconds


def find_version() -> str | None:
    """The version of ziglang; None: it is not installed."""
    if importlib.util.find_spec("ziglang") is None:
        return None
    return importlib.metadata.version("ziglang")


def build_library(machine: str, out: Path) -> None:
    """Writes the library for Linux on `machine` to `out`. Raises MissingToolError: ziglang is missing, or it fails."""
    if find_version() is None:
        raise MissingToolError("ziglang, which compiles for other processors, is not installed.", "pip install ziglang")
    sources = native_sources()
    units = [str(path) for path in sorted(sources.glob("*.cpp")) if path.name != _TOOL]
    command = [sys.executable, "-m", "ziglang", "c++", "-target", f"{machine}-linux-gnu.{GLIBC}", *_FLAGS, *_LINK]
    command += [f"-ffile-prefix-map={sources}=native", *units, "-o", str(out)]
    try:
        run = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        raise MissingToolError(f"ziglang did not compile for {machine} within half an hour.", "try again.") from None
    if run.returncode != 0:
        last = (run.stderr.strip().splitlines() or ["no message"])[-1][:300]
        raise MissingToolError(f"ziglang cannot compile for {machine} ({last}).", "install a newer ziglang.")
