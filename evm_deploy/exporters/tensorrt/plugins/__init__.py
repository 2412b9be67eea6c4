"""Our CUDA kernels as TensorRT plugins. Loading them is a choice of the build; the graph is the same with and without.

How the parser maps a node to a plugin: by the node's type, and its attributes `plugin_namespace` and `plugin_version`.
A plugin that is registered so wins over the local function of the same name, but not within another function; without
one the function is inlined. Of a plugin of the newer kind, `aot` asks for the compiled kernel inside of the engine.
"""

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from evm_deploy.exporters.tensorrt.plugins import operators
from evm_deploy.exporters.tensorrt.plugins.operators import count_plugins

__all__ = ["choose_registration", "count_plugins", "has_aot", "register_plugins"]


class PluginRequest(Protocol):
    """The fields of `build.EngineRequest` that concern plugins."""

    @property
    def graph(self) -> bytes: ...
    @property
    def plugin(self) -> bool: ...


@contextlib.contextmanager
def register_plugins(trt: Any, request: PluginRequest) -> Iterator[bytes]:
    """Yields the graph to parse. Registers our plugins meanwhile, if the request wants them.

    The bodies of the operators that have a plugin are left out: older parsers know them before any plugin, and newer
    ones within other bodies.
    Raises MissingToolError if the library does not support plugins.
    """
    if not request.plugin:
        yield request.graph
        return
    with choose_registration(trt)(trt):
        yield operators.remove_bodies(request.graph)


def choose_registration(trt: Any) -> Callable[[Any], contextlib.AbstractContextManager[None]]:
    """Chooses kernels inside the engine for TensorRT 10.9 or newer, else (and for TensorRT-RTX) calls from Python."""
    from evm_deploy.exporters.tensorrt.plugins import aot, v3

    return aot.register_operators if has_aot(trt) else v3.register_operators


def has_aot(trt: Any) -> bool:
    """Whether a plugin's compiled kernel can be part of the engine."""
    version = tuple(map(int, re.findall(r"\d+", trt.__version__)[:2]))
    return bool(trt.__name__ == "tensorrt" and version >= (10, 9))
