"""The sources of the operator library, which packages include for processors without a compiled library."""

from __future__ import annotations

import shutil
from pathlib import Path

from evm_deploy.errors import MissingToolError
from evm_deploy.files import package_folders

_KINDS = ("*.cpp", "*.h", "*.inl", "CMakeLists.txt")


def native_sources() -> Path:
    """Finds the folder with the sources and their CMakeLists.txt. Raises MissingToolError: they are not installed."""
    for folder in package_folders():
        for place in (folder / "native_src", folder.parent / "native"):
            if (place / "ort_library.cpp").is_file():
                return place
    fix = "install evm-deploy from its sources (run `pip install .` in their folder)."
    raise MissingToolError("this installation of evm-deploy has no sources of the operator library.", fix)


def copy_native_sources(folder: Path) -> None:
    """Copies the sources into the new folder `folder`. Raises MissingToolError."""
    source = native_sources()
    folder.mkdir(parents=True)
    for path in sorted(path for kind in _KINDS for path in source.glob(kind)):
        shutil.copyfile(path, folder / path.name)
