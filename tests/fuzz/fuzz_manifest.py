"""Fuzzes the manifest of a bundle, and what commands read from it."""

from __future__ import annotations

import contextlib

from target import Run, change_document, read_seed, start


def load() -> Run:
    from evm_deploy.errors import EvmDeployError
    from evm_deploy.manifest import Manifest
    from evm_deploy.targets import target_of
    from evm_deploy.tasks import find_task
    from evm_deploy.tolerances import find_tolerance

    seed = read_seed("onnx_int8/manifest.json")

    def run(data: bytes) -> None:
        with contextlib.suppress(EvmDeployError):
            manifest = Manifest.from_json(change_document(seed, data))
            assert Manifest.from_json(manifest.to_json().encode()).to_json() == manifest.to_json()
            target_of(manifest.target)
            find_tolerance(manifest)
            find_task(manifest.task).classes(manifest.outputs)

    return run


if __name__ == "__main__":
    start(load, "manifest")
