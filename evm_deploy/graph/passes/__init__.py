"""What happens to a graph between the PyTorch exporter and the file: the order is data, one pass a file."""

from collections.abc import Callable

import onnx

from evm_deploy.graph.passes.fuse_norms import fuse_norms
from evm_deploy.graph.passes.strip_metadata import strip_metadata

PASSES: tuple[Callable[[onnx.ModelProto], None], ...] = (
    fuse_norms,
    strip_metadata,  # what the others noted as well
)


def run_passes(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Runs every pass in order, in place, and returns `proto`."""
    for change in PASSES:
        change(proto)
    return proto
