"""The sources of the operator library, which packages include for processors without a compiled library."""

from __future__ import annotations

import shutil
from pathlib import Path

from evm_deploy.compiling import native_sources

_KINDS = ("*.cpp", "*.h", "*.inl", "CMakeLists.txt")


def copy_native_sources(folder: Path) -> None:
    """Copies the sources into the new folder `folder`. Raises MissingToolError."""
    source = native_sources()
    folder.mkdir(parents=True)
    for path in sorted(path for kind in _KINDS for path in source.glob(kind)):
        shutil.copyfile(path, folder / path.name)
