"""Where the sources of the operator library are: packages carry them for processors that it is not built for here."""

from __future__ import annotations

import shutil
from pathlib import Path

import evm_deploy
from evm_deploy.errors import MissingToolError

_KINDS = ("*.cpp", "*.h", "*.inl", "CMakeLists.txt")


def native_sources() -> Path:
    """The folder with the sources and their CMakeLists.txt. Raises MissingToolError: they are not installed."""
    for folder in map(Path, evm_deploy.__path__):
        for place in (folder / "native_src", folder.parent / "native"):
            if (place / "ort_library.cpp").is_file():
                return place
    fix = "install evm-deploy from its sources (pip install . in them)."
    raise MissingToolError("this installation of evm-deploy has no sources of the operator library.", fix)


def copy_native_sources(folder: Path) -> None:
    """Copies them into the new folder `folder`. Raises MissingToolError."""
    source = native_sources()
    folder.mkdir(parents=True)
    for path in sorted(path for kind in _KINDS for path in source.glob(kind)):
        shutil.copyfile(path, folder / path.name)
