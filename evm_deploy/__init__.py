"""EfficientVMamba checkpoints to verified bundles for ONNX, Core ML and TensorRT."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evm_deploy.bundle import Bundle as Bundle
    from evm_deploy.calib.options import QuantizeOptions as QuantizeOptions
    from evm_deploy.diagnosis import doctor as doctor
    from evm_deploy.evaluation.options import EvaluateOptions as EvaluateOptions
    from evm_deploy.exporters.options import ExportOptions as ExportOptions
    from evm_deploy.inspection import inspect as inspect
    from evm_deploy.model import EfficientVMamba as EfficientVMamba
    from evm_deploy.model import ModelConfig as ModelConfig
    from evm_deploy.model.checkpoint import load as load
    from evm_deploy.packaging.options import PackageOptions as PackageOptions
    from evm_deploy.pipeline import benchmark as benchmark
    from evm_deploy.pipeline import evaluate as evaluate
    from evm_deploy.pipeline import export as export
    from evm_deploy.pipeline import package as package
    from evm_deploy.pipeline import predict as predict
    from evm_deploy.pipeline import profile as profile
    from evm_deploy.pipeline import quantize as quantize
    from evm_deploy.pipeline import report as report
    from evm_deploy.pipeline import verify as verify
    from evm_deploy.profiling.benchmark_options import BenchmarkOptions as BenchmarkOptions
    from evm_deploy.profiling.options import ProfileOptions as ProfileOptions
    from evm_deploy.scan import selective_scan_fn as selective_scan_fn
    from evm_deploy.scan.native import native_library as native_library

# Loaded on first use: importing the package must not import torch.
_HOMES = {
    "BenchmarkOptions": "profiling.benchmark_options",
    "Bundle": "bundle",
    "EfficientVMamba": "model",
    "EvaluateOptions": "evaluation.options",
    "ExportOptions": "exporters.options",
    "ModelConfig": "model",
    "PackageOptions": "packaging.options",
    "ProfileOptions": "profiling.options",
    "QuantizeOptions": "calib.options",
    "benchmark": "pipeline",
    "doctor": "diagnosis",
    "evaluate": "pipeline",
    "export": "pipeline",
    "inspect": "inspection",
    "load": "model.checkpoint",
    "native_library": "scan.native",
    "package": "pipeline",
    "predict": "pipeline",
    "profile": "pipeline",
    "quantize": "pipeline",
    "report": "pipeline",
    "selective_scan_fn": "scan",
    "verify": "pipeline",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
