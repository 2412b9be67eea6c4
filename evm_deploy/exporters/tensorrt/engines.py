"""The engine of a request: the one that was built before, or a new one."""

from collections.abc import Callable
from typing import Any

from evm_deploy.exporters.tensorrt import cache, libraries
from evm_deploy.exporters.tensorrt.build import Engine, Request, build


def built(trt: Any, request: Request, progress: Callable[[str], None]) -> Engine:
    """Raises what `build` does; a cache that cannot be written is only mentioned."""
    path = cache.path_of(trt, request)
    engine = cache.load(path)
    if engine is not None:
        progress("taking the engine from the cache")
        return engine
    progress(f"building the engine with {libraries.name_of(trt)} for {', '.join(request.capabilities)}")
    engine = build(trt, request, failed_log=path.with_suffix(".log"))
    if reason := cache.store(path, engine):
        progress(f"the engine is not kept in {path.parent} ({reason})")
    return engine
