"""The contenders on this machine: bundles, in the best way or in every way, and PyTorch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from evm_deploy.bundle import Bundle
from evm_deploy.errors import InputError, OptionError
from evm_deploy.files import sha256_file
from evm_deploy.profiling.profile_options import ProfileOptions
from evm_deploy.profiling.requests import DeviceContender, open_bundles
from evm_deploy.runtimes import PYTORCH
from evm_deploy.scan import native
from evm_deploy.targets import target_of
from evm_deploy.tolerances import PARITY

ONNXRUNTIME, BUNDLE, CHECKPOINT = "onnxruntime", "bundle", "checkpoint"
CPU = "CPUExecutionProvider"
ON_THE_CPU = "our operators run only on the CPU, so the portable form was measured"
NOT_BUILT = "the operator library is not built here, so the portable form was measured"


def list_contenders(paths: Sequence[Path], options: ProfileOptions) -> list[DeviceContender]:
    """Lists the contenders in the order of the report. PyTorch, if requested, is the first, which is the reference.

    Raises BundleError, InputError, OptionError: no such provider.
    """
    named, provider = open_bundles(paths), _find_provider(options.provider)
    found = [each for name, bundle in named for each in _list_ways(name, bundle, options, provider)]
    if options.checkpoint is not None:
        found.insert(0, _make_pytorch_contender(options.checkpoint, named))
    return found


def _list_ways(name: str, bundle: Bundle, options: ProfileOptions, provider: str) -> list[DeviceContender]:
    target, ways = bundle.manifest.target, _list_onnx_ways(name, bundle, provider)
    row = target_of(target)
    if not row.is_portable:
        best = DeviceContender(f"{name} on {target}", bundle, name, BUNDLE, shown={"runtime": target})
        ways = [*ways, best] if row.is_onnx_graph else [best]
    if options.every_way:
        return ways if len(ways) > 1 else [dataclasses.replace(ways[0], name=name)]
    plain = row.is_portable and not options.library
    chosen = ways[0] if plain else ways[-1]
    missing = plain or chosen.library or chosen.runner != ONNXRUNTIME or bundle.manifest.scan_form == "inlined"
    notes = () if missing else (ON_THE_CPU if provider != CPU else NOT_BUILT,)
    return [dataclasses.replace(chosen, name=name, notes=notes)]


def _list_onnx_ways(name: str, bundle: Bundle, provider: str) -> list[DeviceContender]:
    """The contenders on onnxruntime: a stock installation, and one with our operators if that helps."""
    found = [DeviceContender(f"{name} on onnxruntime", bundle, name, ONNXRUNTIME, provider)]
    if provider == CPU and native.available() and bundle.manifest.scan_form != "inlined":
        path = str(native.find_usable_library())
        found.append(DeviceContender(f"{name} on onnxruntime + evm_ops", bundle, name, ONNXRUNTIME, provider, path))
    return found


def _make_pytorch_contender(path: Path, named: Sequence[tuple[str, Bundle]]) -> DeviceContender:
    """PyTorch, checked against the golden pair of a bundle that was made from the checkpoint."""
    if not path.is_file():
        raise InputError(f"{path} is not a file.", "name the checkpoint that the bundles were made from.")
    sha256 = sha256_file(path)
    made = [bundle for _, bundle in named if bundle.manifest.checkpoint.sha256 == sha256]
    if not made:
        what = f"none of the bundles was made from {path}, so there is no golden pair to compare PyTorch with."
        raise InputError(what, "name a bundle that was made from it.")
    return DeviceContender(
        PYTORCH,
        made[0],
        path.name,
        CHECKPOINT,
        tolerance=PARITY["fp32"],
        more={"path": str(path.resolve())},
        shown={"target": "pytorch", "precision": "fp32", "sha256": sha256, "size_bytes": path.stat().st_size},
    )


def _find_provider(asked: str) -> str:
    """The execution provider by onnxruntime's name. Raises OptionError: it is not available here."""
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
