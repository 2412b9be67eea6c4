"""What detectors do with boxes and no network does: torch operators, each one node of a graph, standard in ONNX."""

from collections.abc import Callable
from typing import Any

from evm_deploy.regions import alignment, suppression


def list_translations(op: Any) -> dict[Any, Callable[..., Any]]:
    """What `torch.onnx` writes of each, by its overload; `op` is the operator set of onnxscript."""
    return {module.find_overload(): module.translate(op) for module in (alignment, suppression)}
