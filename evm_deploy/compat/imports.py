"""The context within which code that needs CUDA can be imported and run."""

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from evm_deploy.compat.kernels import NameStandIn
from evm_deploy.compat.replacements import replace_functions
from evm_deploy.compat.table import ALWAYS, MISSING, ROOTS

INSTALLED = {"site-packages", "dist-packages"}


@contextlib.contextmanager
def without_cuda() -> Iterator[None]:
    """Supplies the extensions of visual Mamba repositories, and what they import of mamba_ssm and Triton, on a CPU.

    `table.py` lists the modules, and `replacements.py` the functions that repositories carry in their own files and
    that are replaced as these are imported. All scans are our operator, so what is imported within runs, exports, and
    can be trained. Code that imports while it runs, or enters `torch.cuda.device`, has to be run within as well. At
    the end, or at an exception, modules and attributes are again what they were.
    """
    _load_compiler()
    before = _take_modules()
    finder, device = SuppliedFinder(), torch.cuda.device
    sys.meta_path.insert(0, finder)
    torch.cuda.device = _make_device_guard(device)  # type: ignore[assignment, misc]
    try:
        yield
    finally:
        torch.cuda.device = device  # type: ignore[misc]
        sys.meta_path.remove(finder)
        _take_modules()
        sys.modules.update(before)


def _load_compiler() -> None:
    """PyTorch looks for Triton when its compiler is first loaded; later it would take the stand-in for it."""
    for name in ("torch._dynamo", "torch._inductor.runtime.triton_compat", "torch._functorch.aot_autograd"):
        importlib.import_module(name)
    importlib.import_module("torch.utils._triton").has_triton_package()  # remembers what it finds


def _take_modules() -> dict[str, ModuleType]:
    """Takes the modules under our names out of `sys.modules`."""
    names = [name for name in sys.modules if name.partition(".")[0] in ROOTS]
    return {name: sys.modules.pop(name) for name in names}


def _make_device_guard(real: Any) -> type:
    """`torch.cuda.device` that lets the device of a tensor on the CPU pass, and its index, None."""

    class DeviceGuard(real):  # type: ignore[misc]
        def __init__(self, device: Any) -> None:
            self.passes = device is None or getattr(device, "type", device) == "cpu"
            if not self.passes:
                super().__init__(device)

        def __enter__(self) -> Any:
            return None if self.passes else super().__enter__()

        def __exit__(self, *reason: Any) -> Any:
            return False if self.passes else super().__exit__(*reason)

    return DeviceGuard


class SuppliedFinder(importlib.abc.MetaPathFinder):
    """Finds the modules of the tables."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """None where the module is not ours to supply."""
        if name in ALWAYS:
            return _make_spec(name, ALWAYS[name])
        if name.startswith("triton."):
            return _make_spec(name, {"__getattr__": NameStandIn().__getattr__})
        found = _find_elsewhere(name, path, target)
        if found is None:
            return _make_spec(name, MISSING[name]) if name in MISSING else None
        if type(found.loader) is importlib.machinery.SourceFileLoader and not _is_installed(found.loader.path):
            found.loader = ReplacingLoader(name, found.loader.path)
        return found


def _find_elsewhere(
    name: str, path: Sequence[str] | None, target: ModuleType | None
) -> importlib.machinery.ModuleSpec | None:
    """What the other finders find, in their order."""
    others = (finder for finder in sys.meta_path if not isinstance(finder, SuppliedFinder))
    found = (finder.find_spec(name, path, target) for finder in others if hasattr(finder, "find_spec"))
    return next((spec for spec in found if spec is not None), None)


def _is_installed(file: str) -> bool:
    """Whether it is Python's own or a package's, not a repository's; forks of mamba are installed as well."""
    parts = Path(file).parts
    installed = not INSTALLED.isdisjoint(parts) or file.startswith(sysconfig.get_path("stdlib"))
    return installed and "mamba_ssm" not in parts


class ReplacingLoader(importlib.machinery.SourceFileLoader):
    """Runs a file, and puts ours in the place of functions in it that would not trace."""

    def exec_module(self, module: ModuleType) -> None:
        """Runs the file."""
        super().exec_module(module)
        replace_functions(module)


def _make_spec(name: str, contents: Mapping[str, Any]) -> importlib.machinery.ModuleSpec:
    return importlib.machinery.ModuleSpec(name, SuppliedLoader(contents), is_package=True)


class SuppliedLoader(importlib.abc.Loader):
    """Makes a module of what a table has for it."""

    def __init__(self, contents: Mapping[str, Any]) -> None:
        self.contents = contents

    def exec_module(self, module: ModuleType) -> None:
        """Puts the contents there."""
        vars(module).update(self.contents)
