"""What float16 costs a network in PyTorch: the deeper it is, the more an artifact may differ by rounding alone."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from evm_deploy.exporters.deployed import build_reference, find_last_steps
from evm_deploy.manifest import Manifest
from evm_deploy.models.network import Network
from evm_deploy.runtimes.pytorch import TorchRunner
from evm_deploy.tasks import find_task
from evm_deploy.tolerances import PARITY, choose_fp16_tolerance
from evm_deploy.verification.parity import compare_runners
from evm_deploy.verification.scans import SCANS


def choose_tolerance(
    network: Network, manifest: Manifest, images: Mapping[str, npt.NDArray[Any]], build: Mapping[str, Any]
) -> dict[str, Any]:
    """What `find_tolerance` finds in a manifest of float16, and a note beside those of `build`; nothing where the usual
    tolerance holds, as for results of a head, which are no numbers of the network."""
    if find_last_steps(network, manifest) is not None:
        return {}
    cost = measure_float16(network, manifest, images)
    tolerance = choose_fp16_tolerance(cost)
    if tolerance <= PARITY["fp16"]:
        return {}
    note = f"float16 costs the network {cost:.1e} in PyTorch, so an error of {tolerance:.1e} is allowed"
    return {"tolerance": tolerance, "notes": [*build.get("notes", ()), note]}


def measure_float16(network: Network, manifest: Manifest, images: Mapping[str, npt.NDArray[Any]]) -> float:
    """The largest error of the outputs, as the gate measures it, where every result in the network is rounded to
    float16, but for those within scans; 0 where it leaves the range of float16."""
    exact = TorchRunner(build_reference(network, manifest))
    rounded = TorchRunner(build_reference(dataclasses.replace(network, module=_Rounded(network.module)), manifest))
    expected = {name: exact.run(image) for name, image in images.items()}
    rows = compare_runners([rounded], images, expected, manifest.outputs, np.inf, task=find_task(manifest.task))
    worst = max(row.relative for row in rows)
    return worst if np.isfinite(worst) else 0.0


class _Rounded(nn.Module):
    """The module, computed in float16."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *arguments: Any) -> Any:
        with _Rounding():  # type: ignore[no-untyped-call]
            return self.module(*arguments)


class _Rounding(TorchDispatchMode):
    """Rounds what each operation takes and gives; not views and what is changed in place, whose storage is shared."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, schema = kwargs or {}, getattr(func, "_schema", None)
        if func in SCANS:
            return _round(func(*args, **kwargs))
        if schema is None or schema.is_mutable or any(result.alias_info for result in schema.returns):
            return func(*args, **kwargs)
        return tree_map(_round, func(*tree_map(_round, args), **tree_map(_round, kwargs)))


def _round(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.dtype == torch.float32:
        return value.half().float()
    return value
