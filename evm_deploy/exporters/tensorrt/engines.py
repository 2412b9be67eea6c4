"""Gets the engine of a request: from the cache, or by building it."""

from collections.abc import Callable
from typing import Any

from evm_deploy.exporters.tensorrt import cache, libraries
from evm_deploy.exporters.tensorrt.build import Engine, EngineRequest, build_engine


def get_engine(trt: Any, request: EngineRequest, progress: Callable[[str], None]) -> Engine:
    """Loads or builds the engine. Raises what `build_engine` does; a cache that cannot be written is only reported."""
    path = cache.find_engine_path(trt, request)
    engine = cache.load_engine(path)
    if engine is not None:
        progress("taking the engine from the cache")
        return engine
    progress(f"building the engine with {libraries.name_library(trt)} for {', '.join(request.capabilities)}")
    engine = build_engine(trt, request, failed_log=path.with_suffix(".log"))
    if reason := cache.store_engine(path, engine):
        progress(f"the engine is not kept in {path.parent} ({reason})")
    return engine
