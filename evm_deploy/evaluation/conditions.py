"""The conditions of a measurement in this process; profiles have more of them."""

import platform
from typing import Any

from evm_deploy.profiling.agent import machine


def read_conditions() -> dict[str, Any]:
    """The processor, how many of its cores this process may use, the kernels, and the versions of what runs models."""
    import onnxruntime
    import torch

    from evm_deploy.scan import native

    return {
        "cpu": machine.name_cpu(),
        "cores": machine.count_cores(),
        "kernel": native.isa() if native.available() else None,
        "onnxruntime": onnxruntime.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
