"""Functions that repositories carry in their own files, and that would not trace: loops over tokens, Triton kernels.

They are known by their names and the names of their arguments; where they run without CUDA, also by what they give on
small tensors. Anything else is left as it is.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from evm_deploy.compat.norms import gate_norm, gate_rms_norm, layer_norm_fn, rms_norm_fn
from evm_deploy.compat.scan_extensions import Given
from evm_deploy.compat.ssd import (
    mamba_chunk_scan_combined,
    mamba_split_conv1d_scan_combined,
    selective_state_update,
)
from evm_deploy.scan.interface import selective_scan_fn

SAME = 1e-4  # of small tensors of float32, as a share of the largest value


@dataclass(frozen=True)
class Replacement:
    """Our function, the arguments that it takes, and those of trials, where the original runs without CUDA."""

    run: Callable[..., Any]
    arguments: frozenset[str]
    trials: Callable[[], list[dict[str, Any]]] | None = None

    def fits(self, original: Callable[..., Any]) -> bool:
        """Whether ours does what the original does."""
        names = _list_arguments(original)
        if not names or not names <= self.arguments:
            return False
        for trial in self.trials() if self.trials is not None else ():
            given = {name: value for name, value in trial.items() if name in names}
            try:
                expected, found = original(**given), self.run(**given)
            except Exception:
                return False
            if expected.shape != found.shape or (found - expected).abs().max() > SAME * expected.abs().max():
                return False
        return True


def replace_functions(module: ModuleType) -> None:
    """Puts ours in the place of the functions of `module` that they fit."""
    for name, value in list(vars(module).items()):
        ours = REPLACED.get(name)
        if ours is None or getattr(value, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(value) and ours.fits(value):
            setattr(module, name, _call_by_name(value, ours.run))
        elif inspect.isclass(value) and issubclass(value, torch.autograd.Function) and ours.fits(value.apply):
            value.apply = ours.run  # type: ignore[method-assign]


def _list_arguments(function: Callable[..., Any]) -> frozenset[str]:
    """The names of its arguments; of the `apply` of an autograd function, which names none, those of its `forward`."""
    forward = getattr(getattr(function, "__self__", None), "forward", None)
    parameters = list(inspect.signature(forward or function).parameters.values())[forward is not None :]
    return frozenset(each.name for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD))


def _call_by_name(original: Callable[..., Any], ours: Callable[..., Any]) -> Callable[..., Any]:
    """Ours with the order of arguments and the defaults of the original; what that takes and drops is dropped."""
    signature = inspect.signature(original)
    names = _list_arguments(original)

    def run(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs)
        given.apply_defaults()
        return ours(**{name: value for name, value in given.arguments.items() if name in names})

    return run


def scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Given = None,
    z: Given = None,
    delta_bias: Given = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
    oflex: bool = False,
    backend: str | None = None,
    nrows: int = 1,
) -> Any:
    """`selective_scan_fn` in mamba's order alone."""
    given = (u, delta, A, B, C, D, z, delta_bias, bool(delta_softplus), return_last_state)
    return selective_scan_fn(*given, oflex=bool(oflex), backend=backend, nrows=nrows)


def scan_four_ways(x: Tensor, in_channel_first: bool = True, out_channel_first: bool = True, scans: int = 0) -> Tensor:
    """VMamba's cross-scan without assignment to slices: (B, C, H, W) or (B, H, W, C) -> (B, 4, C, L) or (B, L, 4, C).

    scans: 0, rows, columns and both reversed; 1, rows four times; 2, rows and rows reversed, twice each.
    """
    first, time = (2, -1) if in_channel_first else (1, 1)
    rows = x.flatten(first, first + 1)
    columns = x.transpose(first, first + 1).flatten(first, first + 1) if scans == 0 else rows
    ways = [rows, columns, *([rows, columns] if scans == 1 else [rows.flip(time), columns.flip(time)])]
    y = torch.stack(ways, 1 if in_channel_first else 2)
    if in_channel_first == out_channel_first:
        return y
    return y.permute(0, 3, 1, 2) if in_channel_first else y.permute(0, 2, 3, 1)


def _try_scans() -> list[dict[str, Any]]:
    draw = torch.Generator().manual_seed(0)
    u, delta, z, B, C, A, D, bias = (
        torch.randn(shape, generator=draw)
        for shape in ((2, 4, 3), (2, 4, 3), (2, 4, 3), (2, 2, 2, 3), (2, 2, 2, 3), (4, 2), (4,), (4,))
    )
    given = {"u": u, "delta": delta, "A": -A.abs(), "B": B, "C": C, "D": D}
    return [given | {"delta_bias": bias, "delta_softplus": True, "z": z}, given | {"delta_softplus": False}]


def _try_ways() -> list[dict[str, Any]]:
    x = torch.arange(2.0 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    firsts = [(True, True), (True, False), (False, True), (False, False)]
    names = ("in_channel_first", "out_channel_first", "scans")
    return [{"x": x, **dict(zip(names, (*first, ways), strict=True))} for first in firsts for ways in range(3)]


def _make_replacement(run: Callable[..., Any], trials: Any = None) -> Replacement:
    return Replacement(run, _list_arguments(run), trials)


def _take(*names: str, row: Replacement) -> Mapping[str, Replacement]:
    return dict.fromkeys(names, row)


_PLAIN_NORM = _list_arguments(layer_norm_fn) - {"is_rms_norm"}
_GATED_NORM = _list_arguments(gate_norm) - {"is_rms_norm"}
REPLACED: Mapping[str, Replacement] = {
    **_take("selective_scan_torch", "selective_scan_ref", row=_make_replacement(scan, _try_scans)),
    **_take("cross_scan_fwd", "CrossScan", row=_make_replacement(scan_four_ways, _try_ways)),
    "mamba_chunk_scan_combined": _make_replacement(mamba_chunk_scan_combined),
    "mamba_split_conv1d_scan_combined": _make_replacement(mamba_split_conv1d_scan_combined),
    "selective_state_update": _make_replacement(selective_state_update),
    "layer_norm_fn": _make_replacement(layer_norm_fn),
    "rms_norm_fn": Replacement(rms_norm_fn, _PLAIN_NORM),
    "layernorm_fn": _make_replacement(gate_norm),
    "rmsnorm_fn": Replacement(gate_rms_norm, _GATED_NORM),
}
