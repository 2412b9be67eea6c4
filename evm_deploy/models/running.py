"""Which module is running, while a network runs."""

import contextlib
from collections.abc import Iterator

from torch import nn


@contextlib.contextmanager
def follow_modules(model: nn.Module, running: list[str]) -> Iterator[None]:
    """Keeps the names of the modules that run, the innermost last, in `running` while `model` is called."""
    hooks = []
    for name, module in model.named_modules():

        def enter(_: nn.Module, __: object, name: str = name) -> None:
            running.append(name)

        def leave(_: nn.Module, __: object, ___: object) -> None:
            running.pop()

        hooks += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
