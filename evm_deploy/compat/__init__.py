"""Other people's models without CUDA: what their code imports is supplied, and runs on our scan operator."""

from evm_deploy.compat.imports import without_cuda

__all__ = ["without_cuda"]
