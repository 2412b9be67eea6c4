"""The agent with all runtimes of this package: also TensorRT engines, Core ML and PyTorch. Only for this machine.

`python -m evm_deploy.profiling.here REQUEST.json OUT.json`
"""

from __future__ import annotations

import importlib.metadata
import sys
from typing import TYPE_CHECKING

from evm_deploy.errors import EvmDeployError
from evm_deploy.profiling.agent.bundle_files import Unmeasurable
from evm_deploy.profiling.agent.program import main
from evm_deploy.profiling.agent.runners import ROWS, AgentRunner, AgentRuntime
from evm_deploy.targets import TARGETS

if TYPE_CHECKING:
    from evm_deploy.profiling.agent.bundle_files import CheckedBundle
    from evm_deploy.profiling.agent.request import AgentContender, AgentRequest

BUNDLE, CHECKPOINT = "bundle", "checkpoint"


def _prepare_torch() -> dict[str, str]:
    import torch

    return {"torch": torch.__version__}


def _open_bundle(contender: AgentContender, checked: CheckedBundle, request: AgentRequest) -> AgentRunner:
    from evm_deploy.bundle import Bundle
    from evm_deploy.runtimes import find_runtime

    try:
        bundle = Bundle.open(checked.folder)
        runner = find_runtime(bundle).open_bundle(bundle, library=contender.library is not None)
    except EvmDeployError as error:
        raise Unmeasurable(error.cause.rstrip(".")) from None
    if runner.untimed is not None:
        raise Unmeasurable(runner.untimed)
    return AgentRunner(runner.name, None, runner.run, runner.close)


def _open_checkpoint(contender: AgentContender, checked: CheckedBundle, request: AgentRequest) -> AgentRunner:
    import torch

    from evm_deploy.bundle import Bundle
    from evm_deploy.exporters.deployed import build_reference
    from evm_deploy.models.network import find_scan, open_checkpoint
    from evm_deploy.runtimes.pytorch import TorchRunner

    threads = request.threads or len(request.affinity)
    if threads:
        torch.set_num_threads(threads)
    try:
        manifest = Bundle.open(checked.folder).manifest
        key, scan = manifest.checkpoint.key, find_scan(manifest.model)
        network = open_checkpoint(contender.more["path"], key=key, scan=scan)
    except EvmDeployError as error:
        raise Unmeasurable(error.cause.rstrip(".")) from None
    if network.record.sha256 != manifest.checkpoint.sha256:
        raise Unmeasurable("the checkpoint has changed since the start of the measurement (its sha256 differs)")
    runner = TorchRunner(build_reference(network, manifest))
    return AgentRunner("PyTorch", None, runner.run, runner.close)


def _prepare_bundle() -> dict[str, str]:
    packages = [package for target in TARGETS.values() for package in target.packages]
    found = {package.module: version for package in packages if (version := _find_version(package.name))}
    return {**_prepare_torch(), **found}


def _find_version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


HERE: dict[str, AgentRuntime] = {
    **ROWS,
    BUNDLE: AgentRuntime(_prepare_bundle, _open_bundle),
    CHECKPOINT: AgentRuntime(_prepare_torch, _open_checkpoint),
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], ["-m", "evm_deploy.profiling.here"], HERE))
