"""Visual state-space models to verified bundles for ONNX, Core ML and TensorRT."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evm_deploy.benchmarking.benchmark import benchmark as benchmark
    from evm_deploy.benchmarking.benchmark_options import BenchmarkOptions as BenchmarkOptions
    from evm_deploy.bundle import Bundle as Bundle
    from evm_deploy.calib.quantize_options import QuantizeOptions as QuantizeOptions
    from evm_deploy.diagnosis import doctor as doctor
    from evm_deploy.evaluation.evaluate_options import EvaluateOptions as EvaluateOptions
    from evm_deploy.exporters.export_options import ExportOptions as ExportOptions
    from evm_deploy.exporters.save_onnx import save_onnx as save_onnx
    from evm_deploy.inspection import inspect as inspect
    from evm_deploy.models import EfficientVMamba as EfficientVMamba
    from evm_deploy.models import ModelConfig as ModelConfig
    from evm_deploy.models.checkpoint import load as load
    from evm_deploy.packaging.package_options import PackageOptions as PackageOptions
    from evm_deploy.pipeline import evaluate as evaluate
    from evm_deploy.pipeline import export as export
    from evm_deploy.pipeline import package as package
    from evm_deploy.pipeline import predict as predict
    from evm_deploy.pipeline import profile as profile
    from evm_deploy.pipeline import quantize as quantize
    from evm_deploy.pipeline import report as report
    from evm_deploy.pipeline import verify as verify
    from evm_deploy.profiling.profile_options import ProfileOptions as ProfileOptions
    from evm_deploy.scan import selective_scan_fn as selective_scan_fn
    from evm_deploy.scan.native import native_library as native_library

# Loaded on first use: importing the package must not import torch.
_HOMES = {
    "BenchmarkOptions": "benchmarking.benchmark_options",
    "Bundle": "bundle",
    "EfficientVMamba": "models",
    "EvaluateOptions": "evaluation.evaluate_options",
    "ExportOptions": "exporters.export_options",
    "ModelConfig": "models",
    "PackageOptions": "packaging.package_options",
    "ProfileOptions": "profiling.profile_options",
    "QuantizeOptions": "calib.quantize_options",
    "benchmark": "benchmarking.benchmark",
    "doctor": "diagnosis",
    "evaluate": "pipeline",
    "export": "pipeline",
    "inspect": "inspection",
    "load": "models.checkpoint",
    "native_library": "scan.native",
    "package": "pipeline",
    "predict": "pipeline",
    "profile": "pipeline",
    "quantize": "pipeline",
    "report": "pipeline",
    "save_onnx": "exporters.save_onnx",
    "selective_scan_fn": "scan",
    "verify": "pipeline",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    if name == "compat":  # a part of the package with names of its own
        return importlib.import_module(f"{__name__}.compat")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
