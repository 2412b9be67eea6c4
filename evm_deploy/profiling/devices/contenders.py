"""Who is measured on this machine: bundles, in the best way that it has or in every way, and PyTorch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from evm_deploy.bundle import Bundle
from evm_deploy.errors import InputError, OptionError
from evm_deploy.files import sha256_file
from evm_deploy.profiling.profile_options import ProfileOptions
from evm_deploy.profiling.requests import Contender, opened
from evm_deploy.runtimes import PYTORCH
from evm_deploy.scan import native
from evm_deploy.targets import target_of
from evm_deploy.tolerances import PARITY

ONNXRUNTIME, BUNDLE, CHECKPOINT = "onnxruntime", "bundle", "checkpoint"
CPU = "CPUExecutionProvider"
ON_THE_CPU = "our operators run on the CPU: the portable form was measured"
NOT_BUILT = "the operator library is not built here: the portable form was measured"


def contenders(paths: Sequence[Path], options: ProfileOptions) -> list[Contender]:
    """In the order of the report; PyTorch, where it was asked for, is the first, which the others are held against.

    Raises BundleError, InputError, OptionError: no such provider.
    """
    named, provider = opened(paths), _provider(options.provider)
    found = [each for name, bundle in named for each in _ways(name, bundle, options, provider)]
    if options.checkpoint is not None:
        found.insert(0, _checkpoint(options.checkpoint, named))
    return found


def _ways(name: str, bundle: Bundle, options: ProfileOptions, provider: str) -> list[Contender]:
    target, ways = bundle.manifest.target, _graph(name, bundle, provider)
    row = target_of(target)
    if not row.is_portable:
        best = Contender(f"{name} on {target}", bundle, name, BUNDLE, shown={"runtime": target})
        ways = [*ways, best] if row.is_onnx_graph else [best]
    if options.every_way:
        return ways if len(ways) > 1 else [dataclasses.replace(ways[0], name=name)]
    plain = row.is_portable and not options.library
    chosen = ways[0] if plain else ways[-1]
    missing = plain or chosen.library or chosen.runner != ONNXRUNTIME or bundle.manifest.scan_form == "inlined"
    notes = () if missing else (ON_THE_CPU if provider != CPU else NOT_BUILT,)
    return [dataclasses.replace(chosen, name=name, notes=notes)]


def _graph(name: str, bundle: Bundle, provider: str) -> list[Contender]:
    """On onnxruntime: as a stock installation runs it, and with our operators where that helps."""
    found = [Contender(f"{name} on onnxruntime", bundle, name, ONNXRUNTIME, provider)]
    if provider == CPU and native.available() and bundle.manifest.scan_form != "inlined":
        path = str(native.native_library())
        found.append(Contender(f"{name} on onnxruntime + evm_ops", bundle, name, ONNXRUNTIME, provider, path))
    return found


def _checkpoint(path: Path, named: Sequence[tuple[str, Bundle]]) -> Contender:
    """PyTorch on the input of a bundle that was made from the checkpoint, whose golden pair it has to give."""
    if not path.is_file():
        raise InputError(f"{path} is not a file.", "name the checkpoint that the bundles were made from.")
    sha256 = sha256_file(path)
    made = [bundle for _, bundle in named if bundle.manifest.checkpoint.sha256 == sha256]
    if not made:
        what = f"none of the bundles was made from {path}: there is no golden pair to hold PyTorch against."
        raise InputError(what, "name a bundle that was made from it.")
    return Contender(
        PYTORCH,
        made[0],
        path.name,
        CHECKPOINT,
        tolerance=PARITY["fp32"],
        more={"path": str(path.resolve())},
        shown={"target": "pytorch", "precision": "fp32", "sha256": sha256, "size_bytes": path.stat().st_size},
    )


def _provider(asked: str) -> str:
    """As onnxruntime calls it. Raises OptionError: it has none of that name here."""
    if asked.lower() == "cpu":
        return CPU
    import onnxruntime

    offered: dict[str, str] = {
        name.removesuffix("ExecutionProvider").lower(): name for name in onnxruntime.get_available_providers()
    }
    wanted = asked.lower().removesuffix("executionprovider")
    if wanted not in offered:
        what = f"onnxruntime has no execution provider {asked!r} here."
        raise OptionError(what, f"choose one of: {', '.join(offered)}; others come with other builds of onnxruntime.")
    return offered[wanted]
