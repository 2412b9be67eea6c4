"""Watches what a network computes while it runs: where it draws random numbers, and scans that are Python loops."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from evm_deploy.errors import InputError
from evm_deploy.models.location import locate_caller
from evm_deploy.models.running import follow_modules

UNROLLED = 16  # sums of products in succession, each of the one before: no layer has so many, a loop over tokens has
aten: Any = torch.ops.aten
PRODUCTS = {aten.mul, aten.mul_}
SUMS = {aten.add, aten.add_}
SAME = {aten.clone, aten.view, aten.unsqueeze, aten.squeeze, aten.expand, aten._to_copy, aten._unsafe_view, aten.detach}


def call_watched(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """What `module` returns. Raises InputError: it draws random numbers, or a scan of it is a loop over tokens."""
    watch = _Watch()
    with follow_modules(module, watch.running), watch:
        found = module(*args, **kwargs)
    if watch.drawn:
        what = f"{type(module).__name__} draws random numbers with {watch.drawn[0]}, which a graph would repeat."
        raise InputError(what, "let it compute the same at every call in eval mode.")
    return found


class _Watch(TorchDispatchMode):
    """`running` is kept by `follow_modules`. `drawn` says what draws random numbers, and where.

    Raises InputError as soon as a scan turns out to be a loop.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.running: list[str] = []
        self.drawn: list[str] = []
        self._steps: Any = WeakTensorKeyDictionary()  # of results of a recurrence: how many led to them

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags and not _drops_nothing(func, args, kwargs or {}):
            self.drawn.append(f"aten.{func.overloadpacket.__name__}{self._locate()}")
        given = [self._steps.get(arg, _NONE) for arg in args if isinstance(arg, Tensor)]
        y = func(*args, **(kwargs or {}))
        if given and isinstance(y, Tensor):
            self._follow(func.overloadpacket, given, y)
        return y

    def _follow(self, packet: Any, given: "list[Steps]", y: Tensor) -> None:
        """The recurrence goes on through the product of a sum, not through what is added to it."""
        most = max(steps.number for steps in given)
        if packet in PRODUCTS:
            self._steps[y] = Steps(most, True)
        elif packet in SAME:
            self._steps[y] = given[0]
        elif packet in SUMS or packet == aten.addcmul:
            factors = given[1:] if packet == aten.addcmul else [steps for steps in given if steps.is_product]
            if factors:
                self._steps[y] = Steps(max(steps.number for steps in factors) + 1, False)
                if self._steps[y].number == UNROLLED:
                    what = f"a scan is a Python loop over its tokens{self._locate()}: each would be nodes of its own."
                    fix = "call evm_deploy.selective_scan_fn there, or import within evm_deploy.compat.without_cuda()."
                    raise InputError(what, fix)

    def _locate(self) -> str:
        return locate_caller(self.running[-1] if self.running else "")


def _drops_nothing(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether it would draw for dropout alone, and the share that is dropped is 0, as attention has it in eval mode."""
    names = [argument.name for argument in func._schema.arguments]
    return "dropout_p" in names and not ({**dict(zip(names, args, strict=False)), **kwargs}.get("dropout_p"))


class Steps(NamedTuple):
    """How many sums of products led to a tensor, and whether it is itself a product that nothing was added to."""

    number: int
    is_product: bool


_NONE = Steps(0, False)
