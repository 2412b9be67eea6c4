"""What float16 would cost the recurrence of each scan: measured on images, before anything is converted."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from evm_deploy.exporters.deployed import Source, build_reference
from evm_deploy.models.running import follow_modules
from evm_deploy.operators import OPERATORS
from evm_deploy.operators.operator import ROWS
from evm_deploy.tolerances import RECURRENCE_FP16


@dataclass(frozen=True)
class Form:
    """An operator in standard operations, the places of its arguments that float16 halves, and of a scan that of D."""

    operator: str
    run: Callable[..., Tensor]
    halves: tuple[int, ...]
    D: int | None


FORMS = {
    operator.torch_op(): Form(
        operator.name,
        operator.static_form,
        operator.places(ROWS),
        operator.place(operator.skip) if operator.skip else None,
    )
    for operator in OPERATORS.values()
    if operator.torch_op is not None and operator.static_form is not None
}


def choose_float32(source: Source, say: Callable[[str], None]) -> tuple[list[str], dict[str, Any]]:
    """The names of the modules whose scans stay float32, and what the record of the export says of it."""
    losses: dict[str, float] = {}
    if source.options.precision == "fp16":
        say("measuring what float16 costs the recurrence")
        exact = build_reference(source.network, source.manifest)
        losses = measure(exact, map(torch.from_numpy, source.images.values()))
    kept = [name for name, loss in losses.items() if loss > RECURRENCE_FP16]
    notes = _describe_losses(losses, kept)
    return kept, {"recurrence_float16_error": losses, "recurrence_float32": kept, "notes": notes}


def measure(model: nn.Module, images: Iterable[Tensor]) -> dict[str, float]:
    """The name of each module that runs a scan, the innermost, and the largest error of float16 in it on `images`.

    It is relative to the largest |y|. Every operation of the scan is rounded to float16, as on a device that computes
    in it. D u is left out: it passes by the recurrence and would hide what that loses. Infinite where float16
    overflows. `model` is float32.
    """
    losses = _Losses()
    with follow_modules(model, losses.running):
        for image in images:
            with torch.inference_mode(), losses:
                model(image)
    return losses.worst


def _describe_losses(losses: Mapping[str, float], kept: Collection[str]) -> list[str]:
    """What a parity report should say of the recurrence."""
    if not losses:
        return []
    worst = max(losses, key=lambda name: losses[name])
    said = f"float16 changes the recurrence by at most {losses[worst]:.1e} ({worst.removeprefix('model.')})"
    names = ", ".join(name.removeprefix("model.") for name in kept)
    return [f"{said}; more than {RECURRENCE_FP16:.0e}, so float32 is kept in {names}" if kept else said]


class _Losses(TorchDispatchMode):
    """Repeats every scan in float16, and in float32, as it runs."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.running: list[str] = []
        self.worst: dict[str, float] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        form = FORMS.get(func)
        if form is not None and form.D is not None:
            given = [torch.zeros_like(a) if i == form.D and a is not None else a for i, a in enumerate(args)]
            exact = form.run(*given, **(kwargs or {}))
            halves = [a.half() if i in form.halves else a for i, a in enumerate(given)]
            found = form.run(*halves, **(kwargs or {}), dtype=torch.float16).float()
            error = (found - exact).abs().max() / exact.abs().max().clamp_min(1e-30)
            name = self.running[-1]
            self.worst[name] = max(self.worst.get(name, 0.0), float(error.nan_to_num(math.inf)))
        return func(*args, **(kwargs or {}))
