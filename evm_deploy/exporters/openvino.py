"""Exports for OpenVINO: the ONNX graph of standard operators alone, which it reads."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from evm_deploy.exporters import onnx
from evm_deploy.exporters.deployed import Source
from evm_deploy.optional import import_library


def write(source: Source, path: Path, progress: Callable[[str], None]) -> dict[str, Any]:
    """Writes the graph at `path`. Raises MissingToolError: OpenVINO is not installed, which is to check it."""
    import_library("openvino")
    return onnx.write(source, path, progress)
