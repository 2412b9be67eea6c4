"""A stand-in for Triton: code that defines kernels can be imported, and starting one is an error that names it."""

from collections.abc import Callable
from typing import Any

from evm_deploy.compat.refusals import refuse


class KernelStandIn:
    """What `triton.jit` makes of a function."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn
        self.__name__ = getattr(fn, "__name__", "")

    def __getitem__(self, grid: object) -> Any:
        refuse(f"the Triton kernel {self.__name__}")

    def __call__(self, *_: object, **__: object) -> Any:
        refuse(f"the Triton kernel {self.__name__}")


class NameStandIn:
    """Any name of Triton's language: as a type, a decorator's argument or a constant, never as a computation."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return NameStandIn

    def __call__(self, *_: object, **__: object) -> Any:
        return self


def make_kernel(fn: Any = None, **_: object) -> Any:
    """`triton.jit`, with options or without."""
    return KernelStandIn(fn) if callable(fn) else make_kernel


def leave(*_: object, **__: object) -> Any:
    """`triton.autotune` and `triton.heuristics`: the kernel as it is."""
    return lambda kernel: kernel


def _ceil_divide(a: int, b: int) -> int:
    return -(-a // b)


def _next_power_of_2(n: int) -> int:
    return 1 << (n - 1).bit_length()


TRITON = {
    "__version__": "3.0.0",
    "jit": make_kernel,
    "autotune": leave,
    "heuristics": leave,
    "Config": NameStandIn,
    "cdiv": _ceil_divide,
    "next_power_of_2": _next_power_of_2,
}
