"""How a machine over ssh runs a bundle: with onnxruntime (with or without our operators) or trtexec."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from evm_deploy.bundle import Bundle
from evm_deploy.errors import BundleError, DeviceError
from evm_deploy.profiling.devices import library
from evm_deploy.profiling.devices.contenders import CPU, ON_THE_CPU
from evm_deploy.profiling.profile_options import ProfileOptions
from evm_deploy.profiling.requests import DeviceContender
from evm_deploy.targets import Target, target_of

ONNXRUNTIME, TRTEXEC = "onnxruntime", "trtexec"


class RemoteWays:
    """The runtimes of a machine, from its facts. Raises DeviceError: it has none."""

    def __init__(self, facts: dict[str, Any], host: str, options: ProfileOptions) -> None:
        self._host, self._every = host, options.every_way
        if "numpy" not in facts:
            raise DeviceError(f"the Python of {host} has no numpy.", "run there: pip install numpy onnxruntime")
        self._trtexec = str(facts["trtexec"]) if facts.get("trtexec") else None
        self._has = {ONNXRUNTIME: "onnxruntime" in facts, TRTEXEC: self._trtexec is not None}
        if not any(self._has.values()):
            raise DeviceError(f"{host} has neither onnxruntime nor trtexec.", "run there: pip install onnxruntime")
        self._provider = self._find_provider(facts, options.provider) if self._has[ONNXRUNTIME] else None
        self.library = library.find_library(facts, host) if options.library else library.OperatorLibrary(None)
        self.library_there = f"library/{self.library.path.name}" if self.library.path else ""

    def list_contenders(self, name: str, bundle: Bundle) -> list[DeviceContender]:
        """The contenders of a bundle. Raises BundleError: no runtime over ssh runs its target."""
        known = _runners(target_of(bundle.manifest.target))
        if not known:
            fix = "measure it on the machine itself, with --device local."
            raise BundleError(f"{bundle.path} is for {bundle.manifest.target}, which is not run over ssh.", fix)
        runners = [runner for runner in known if self._has[runner]]
        if not runners:
            raise DeviceError(f"{self._host} has no trtexec, which {bundle.path} needs.", "install TensorRT there.")
        every = [each for runner in runners for each in self._list_on(runner, name, bundle)]
        best = next((one for one in every if one.library), every[0])
        return every if self._every else [dataclasses.replace(best, name=name)]

    def _list_on(self, runner: str, name: str, bundle: Bundle) -> Iterator[DeviceContender]:
        if runner == TRTEXEC:
            yield DeviceContender(f"{name} on trtexec", bundle, name, TRTEXEC, more={"trtexec": self._trtexec})
            return
        ours = bundle.manifest.scan_form != "inlined"
        on_cpu = self._provider == CPU
        notes = () if not ours else self.library.notes if on_cpu else (ON_THE_CPU,) if self.library.path else ()
        yield DeviceContender(f"{name} on onnxruntime", bundle, name, runner, self._provider, notes=notes)
        if ours and on_cpu and self.library.path:
            title = f"{name} on onnxruntime + evm_ops"
            yield DeviceContender(title, bundle, name, runner, self._provider, self.library_there)

    def _find_provider(self, facts: dict[str, Any], asked: str) -> str:
        """The execution provider by onnxruntime's name. Raises DeviceError: the machine does not have it."""
        offered = [str(each) for each in facts.get("providers") or ()]
        wanted = asked.lower().removesuffix("executionprovider")
        for each in offered:
            if each.removesuffix("ExecutionProvider").lower() == wanted:
                return each
        names = ", ".join(each.removesuffix("ExecutionProvider").lower() for each in offered)
        raise DeviceError(f"onnxruntime of {self._host} has no provider {asked!r}.", f"choose one of: {names}.")


def _runners(target: Target) -> list[str]:
    """The agent's runners that take such bundles, the preferred one first."""
    takes = {ONNXRUNTIME: target.is_portable, TRTEXEC: target.is_onnx_graph}
    return [runner for runner, taken in takes.items() if taken]
