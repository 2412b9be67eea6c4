"""What float16 would cost the recurrence of each scan: measured on images, before anything is converted."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from evm_deploy.models.efficientvmamba.blocks import ScanMixer
from evm_deploy.operators import OPERATORS
from evm_deploy.operators.operator import ROWS


@dataclass(frozen=True)
class Form:
    """An operator in standard operations, and the places of its arguments that float16 halves, and of D."""

    run: Callable[..., Tensor]
    halves: tuple[int, ...]
    D: int


FORMS = {
    operator.torch_op(): Form(operator.static_form, operator.places(ROWS), operator.place(operator.skip))
    for operator in OPERATORS.values()
    if operator.torch_op is not None and operator.static_form is not None and operator.skip is not None
}


def measure(model: nn.Module, images: Iterable[Tensor]) -> dict[str, float]:
    """The name of each module with a scan, and the largest error of float16, relative to the largest |y|, on `images`.

    Every operation of the scan is rounded to float16, as on a device that computes in it. D u is left out: it passes
    by the recurrence and would hide what that loses. Infinite where float16 overflows. `model` is float32.
    """
    names = [name for name, module in model.named_modules() if isinstance(module, ScanMixer)]
    worst = dict.fromkeys(names, 0.0)
    for image in images:
        with torch.inference_mode(), _Losses() as mode:
            model(image)
        for name, loss in zip(names, mode.losses, strict=True):
            worst[name] = max(worst[name], loss)
    return worst


class _Losses(TorchDispatchMode):
    """Repeats every scan in float16, and in float32, as it runs."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.losses: list[float] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in FORMS:
            form = FORMS[func]
            given = [torch.zeros_like(a) if i == form.D and a is not None else a for i, a in enumerate(args)]
            exact = form.run(*given, **(kwargs or {}))
            halves = [a.half() if i in form.halves else a for i, a in enumerate(given)]
            found = form.run(*halves, **(kwargs or {}), dtype=torch.float16).float()
            error = (found - exact).abs().max() / exact.abs().max().clamp_min(1e-30)
            self.losses.append(float(error.nan_to_num(math.inf)))
        return func(*args, **(kwargs or {}))
