"""Checks this machine: the libraries that the commands need, and the native operator library."""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from evm_deploy.targets import TARGETS, PythonPackage

LIBRARIES = ("torch", "onnx", "onnxscript", "onnxruntime")
# Libraries that only some targets and commands need.
OPTIONAL = (
    *(package for target in TARGETS.values() for package in target.packages),
    PythonPackage("nvrtc", "nvidia-cuda-nvrtc", "our CUDA kernels, unless nvcc is there"),
    PythonPackage("matplotlib", "matplotlib", "pictures of ranges and of profiles"),
    PythonPackage("jinja2", "jinja2", "profiles as HTML"),
    PythonPackage("aiohttp", "aiohttp", "profile --device browser"),
    PythonPackage("segno", "segno", "its QR code in the terminal"),
    PythonPackage("cryptography", "cryptography", "signed packages"),
    PythonPackage("distributed", "distributed", "evaluate --workers and --cluster"),
    PythonPackage("pycocotools", "pycocotools", "evaluate of detectors"),
)
# Programs that only some commands start: the program, what is not available without it, how to get it.
PROGRAMS = (
    ("ssh", "profile --device ssh://...", "install OpenSSH's client (Debian: apt install openssh-client)."),
    ("adb", "profile --device adb", "install Android's platform tools (Debian: apt install adb)."),
    (
        "npm",
        "onnxruntime-web, for --device browser and --for web",
        "install Node.js with npm (Debian: apt install npm).",
    ),
)
DISTRIBUTION = "evm-deploy"


@dataclass(frozen=True)
class Check:
    """One row: the name, the state, and what to do if it is not ok."""

    name: str
    status: Literal["ok", "old", "missing", "broken"]
    detail: str
    fix: str = ""
    required: bool = True

    @property
    def ready(self) -> bool:
        """Whether the commands can work with this state."""
        return self.status == "ok" or not self.required


def doctor() -> list[Check]:
    """Checks this machine. Returns a row for each thing that a command uses. Raises nothing."""
    optional = map(_check_optional, OPTIONAL)
    programs = [_check_program(*row) for row in PROGRAMS]
    return [_check_python(), *map(_check_library, LIBRARIES), _check_native(), *optional, *programs, _check_gpu()]


def _check_python() -> Check:
    detail = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    old = sys.version_info < (3, 10)
    return Check("python", "old" if old else "ok", detail, "install Python 3.10 or newer." if old else "")


def _check_library(name: str) -> Check:
    floor = _read_floors().get(name, "")
    fix = f'pip install "{name}>={floor}"' if floor else f"pip install {name}"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            return Check(name, "broken", f"it needs {error.name}", f"pip install --force-reinstall {name}")
        return Check(name, "missing", "not installed", fix)
    except Exception as error:  # a library built for another system may raise anything
        return Check(name, "broken", f"{type(error).__name__}: {error}", f"pip install --force-reinstall {name}")
    version = str(module.__version__)
    if _parse_version(version) < _parse_version(floor):
        return Check(name, "old", f"{version}, older than {floor}", fix)
    if name == "onnxruntime":
        version += f" ({', '.join(module.get_available_providers())})"
    return Check(name, "ok", version)


def _check_optional(package: PythonPackage) -> Check:
    try:  # from its metadata, because some take seconds to import
        version = importlib.metadata.version(package.name)
    except importlib.metadata.PackageNotFoundError:
        detail, fix = f"not installed: needed for {package.purpose}", _find_obstacle(package)
        return Check(package.module, "missing", detail, fix or f"pip install {package.name}", required=False)
    return Check(package.module, "ok", f"{version} is installed", required=False)


def _find_obstacle(package: PythonPackage) -> str | None:
    """What has to be done before the package can be installed here."""
    library, version = platform.libc_ver()
    if sys.version_info[:2] < package.python:
        return f"use Python {_spell(package.python)} or newer."
    if library == "glibc" and _parse_version(version) < package.glibc:
        return f"use a system with glibc {_spell(package.glibc)} or newer; this has {version}."
    return None


def _spell(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def _check_program(name: str, purpose: str, fix: str) -> Check:
    path = shutil.which(name)
    if path is None:
        return Check(name, "missing", f"not installed: needed for {purpose}", fix, required=False)
    return Check(name, "ok", path, required=False)


def _check_gpu() -> Check:
    try:
        import torch

        if torch.cuda.is_available():
            return Check("gpu", "ok", torch.cuda.get_device_name(), required=False)
        detail = "none that CUDA can use: engines can be built but not run"
    except Exception as error:
        detail = f"{type(error).__name__}: {error}"
    return Check("gpu", "missing", detail, "run TensorRT bundles on a machine with an NVIDIA GPU.", required=False)


def _check_native() -> Check:
    name = "native operators"
    try:
        from evm_deploy.scan import native

        if not native.available():
            fix = "install a C++ compiler; then, in the folder of evm-deploy: pip install --force-reinstall --no-deps ."
            return Check(name, "missing", "models run on standard operators, which is slower", fix, required=False)
        path = native.find_usable_library()
        _load_in_onnxruntime(path)
        return Check(name, "ok", f"{native.isa()}, {path}", required=False)
    except Exception as error:  # the user must read whatever the system's loader raises
        fix = "in the folder of evm-deploy: pip install --force-reinstall --no-deps ."
        return Check(name, "broken", f"{type(error).__name__}: {error}", fix, required=False)


def _load_in_onnxruntime(path: Path) -> None:
    import onnxruntime

    onnxruntime.SessionOptions().register_custom_ops_library(str(path))


def _read_floors() -> dict[str, str]:
    """The oldest version of each library that our package accepts."""
    try:
        needs = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:  # run from a source tree
        return {}
    matches = (re.match(r"([\w.-]+).*>=([\d.]+)", need) for need in needs if ";" not in need)  # no extras
    return {match[1]: match[2] for match in matches if match}


def _parse_version(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: (1, 20, 1) for 1.20.1+cu12."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, match[0].split("."))) if match else ()
