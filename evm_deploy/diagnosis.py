"""Is this machine ready? Each library that the commands need, and the native operator library."""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import platform
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from evm_deploy.targets import TARGETS

LIBRARIES = ("torch", "onnx", "onnxscript", "onnxruntime")
# What single targets and commands need: the module, the package that has it, and what is not there without it.
OPTIONAL = (
    *((row.module, row.name, row.purpose) for target in TARGETS.values() for row in target.packages),
    ("nvrtc", "nvidia-cuda-nvrtc", "our CUDA kernels, unless nvcc is there"),
    ("matplotlib", "matplotlib", "pictures of ranges and of profiles"),
    ("jinja2", "jinja2", "profiles as HTML"),
    ("aiohttp", "aiohttp", "profile --device browser"),
    ("segno", "segno", "its QR code in the terminal"),
    ("cryptography", "cryptography", "signed packages"),
    ("distributed", "distributed", "evaluate --workers and --cluster"),
)
# Programs that single commands start: the program, what is not there without it, how to get it.
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
    """One row: what was looked for, how it stands, and what to do where it is not ok."""

    name: str
    status: Literal["ok", "old", "missing", "broken"]
    detail: str
    fix: str = ""
    required: bool = True

    @property
    def ready(self) -> bool:
        """Whether the commands work as far as this row goes."""
        return self.status == "ok" or not self.required


def doctor() -> list[Check]:
    """The state of this machine, a row for each thing that a command uses. Raises nothing."""
    optional = [_optional(*row) for row in OPTIONAL]
    programs = [_program(*row) for row in PROGRAMS]
    return [_python(), *map(_library, LIBRARIES), _native(), *optional, *programs, _gpu()]


def _python() -> Check:
    detail = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    old = sys.version_info < (3, 10)
    return Check("python", "old" if old else "ok", detail, "install Python 3.10 or newer." if old else "")


def _library(name: str) -> Check:
    floor = _floors().get(name, "")
    fix = f'pip install "{name}>={floor}"' if floor else f"pip install {name}"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            return Check(name, "broken", f"it needs {error.name}", f"pip install --force-reinstall {name}")
        return Check(name, "missing", "not installed", fix)
    except Exception as error:  # a library built for another system raises what it likes
        return Check(name, "broken", f"{type(error).__name__}: {error}", f"pip install --force-reinstall {name}")
    version = str(module.__version__)
    if _numbers(version) < _numbers(floor):
        return Check(name, "old", f"{version}, older than {floor}", fix)
    if name == "onnxruntime":
        version += f" ({', '.join(module.get_available_providers())})"
    return Check(name, "ok", version)


def _optional(name: str, package: str, purpose: str) -> Check:
    try:  # by its metadata: some take seconds to import
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return Check(name, "missing", f"not installed: needed for {purpose}", f"pip install {package}", required=False)
    return Check(name, "ok", f"{version} is installed", required=False)


def _program(name: str, purpose: str, fix: str) -> Check:
    path = shutil.which(name)
    if path is None:
        return Check(name, "missing", f"not installed: needed for {purpose}", fix, required=False)
    return Check(name, "ok", path, required=False)


def _gpu() -> Check:
    try:
        import torch

        if torch.cuda.is_available():
            return Check("gpu", "ok", torch.cuda.get_device_name(), required=False)
        detail = "none that CUDA can use: engines are built, not run"
    except Exception as error:
        detail = f"{type(error).__name__}: {error}"
    return Check("gpu", "missing", detail, "run TensorRT bundles on a machine with an NVIDIA GPU.", required=False)


def _native() -> Check:
    name = "native operators"
    try:
        from evm_deploy.scan import native

        if not native.available():
            fix = "install a C++ compiler; then, in the folder of evm-deploy: pip install --force-reinstall --no-deps ."
            return Check(name, "missing", "models run, more slowly, on standard operators", fix, required=False)
        path = Path(native.native_library())
        isa = ctypes.CDLL(str(path)).evm_isa
        isa.restype = ctypes.c_char_p
        _load_in_onnxruntime(path)
        return Check(name, "ok", f"{isa().decode()}, {path}", required=False)
    except Exception as error:  # whatever the loader of this system raises is what the user must read
        fix = "in the folder of evm-deploy: pip install --force-reinstall --no-deps ."
        return Check(name, "broken", f"{type(error).__name__}: {error}", fix, required=False)


def _load_in_onnxruntime(path: Path) -> None:
    import onnxruntime

    onnxruntime.SessionOptions().register_custom_ops_library(str(path))


def _floors() -> dict[str, str]:
    """The least version of each library that our own package asks for."""
    try:
        needs = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:  # run from a source tree
        return {}
    matches = (re.match(r"([\w.-]+).*>=([\d.]+)", need) for need in needs if ";" not in need)  # no extras
    return {match[1]: match[2] for match in matches if match}


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: (1, 20, 1) of 1.20.1+cu12."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, match[0].split("."))) if match else ()
