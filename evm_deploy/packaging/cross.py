"""Compiles the operator library for Linux on other processors than this machine's, with the package ziglang.

The same sources give the same bytes. The first time takes minutes, because ziglang builds its C++ library too.
"""

from __future__ import annotations

from pathlib import Path

from evm_deploy.compiling import native_sources, run_zig

GLIBC = "2.28"  # from 2018; Debian 10, Ubuntu 20.04 and JetPack 5 have this version or a newer one
_TOOL = "check.cpp"  # a program of its own; all other sources are the library
_FLAGS = ("-std=c++17", "-O3", "-ffp-contract=fast", "-fPIC", "-shared", "-s", "-fvisibility=hidden")
_LINK = ("-fvisibility-inlines-hidden", "-Wl,--build-id=none", "-Wl,-z,nodelete")
MACHINES = ("aarch64",)  # not x86-64: each of its files needs other flags; the installation builds it there


def build_library(machine: str, out: Path) -> None:
    """Writes the library for Linux on `machine` to `out`. Raises MissingToolError: ziglang is missing, or it fails."""
    sources = native_sources()
    units = [str(path) for path in sorted(sources.glob("*.cpp")) if path.name != _TOOL]
    options = ["c++", "-target", f"{machine}-linux-gnu.{GLIBC}", *_FLAGS, *_LINK, f"-ffile-prefix-map={sources}=native"]
    run_zig(machine, [*options, *units, "-o", str(out)])
